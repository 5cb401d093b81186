// What stands beside the map: pictures or values of a row, the legend, the selection as CSV.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children); // as text, whatever it holds
  return element;
}

// ---- a row and what is decoded, as pictures or as values ----

const sprite = facts.image ? new Image() : null;
const values = facts.image ? null : numbers("originals", facts.wide ? Float64Array : Float32Array); // (M, D)
const MAX_LINES = 100;

class Tile {
  constructor(figure) {
    const [height, width] = facts.image;
    this.canvas = make("canvas", { width, height });
    this.pen = this.canvas.getContext("2d");
    this.data = new ImageData(width, height);
    figure.prepend(this.canvas);
  }

  // Paint what the decoder gave (E,).
  paint(y) {
    const channels = facts.image[2];
    const pixels = this.data.data;
    for (let p = 0, i = 0; i < y.length; p += 4, i += channels) {
      for (let c = 0; c < 4; c++) {
        const from = channels < 3 ? i : i + c;
        const opaque = c === 3 && channels < 4;
        pixels[p + c] = opaque ? 255 : Math.round(((y[from] * scale[from] + shift[from] - facts.black) / (facts.white - facts.black)) * 255);
      }
    }
    this.pen.putImageData(this.data, 0, 0);
  }

  // Paint the original at a place of the sprite; nothing where it is not held.
  paintOriginal(place) {
    const [height, width] = facts.image;
    this.pen.clearRect(0, 0, width, height);
    const [x, y] = [(place % facts.across) * width, Math.floor(place / facts.across) * height];
    if (place >= 0 && sprite.complete) this.pen.drawImage(sprite, x, y, width, height, 0, 0, width, height);
  }
}

const tiles = {};
const cells = {}; // of the table of values: three lists of cells

function makeProbe() {
  $("row").classList.toggle("long", Object.keys(facts.kept).length > 0);
  if (facts.image) {
    for (const name of ["here", "original", "rebuilt"]) tiles[name] = new Tile($(name));
    return;
  }
  for (const name of ["here", "original", "rebuilt"]) {
    $(name).hidden = true;
    cells[name] = [];
  }
  const body = make("tbody");
  for (const name of facts.columns.slice(0, MAX_LINES)) {
    const line = make("tr", {}, make("th", { scope: "row", textContent: name, title: name }));
    for (const of of Object.keys(cells)) {
      cells[of].push(make("td"));
      line.append(cells[of].at(-1));
    }
    body.append(line);
  }
  const titles = ["Column", "Here", "Original", "Rebuilt"].map((text) => make("th", { scope: "col", textContent: text }));
  $("values").append(make("table", {}, make("thead", {}, make("tr", {}, ...titles)), body));
  if (facts.columns.length > MAX_LINES) {
    const text = `The first ${MAX_LINES} of ${facts.columns.length} columns.`;
    $("values").append(make("p", { className: "quiet", textContent: text }));
  }
  $("values").hidden = false;
}

function write(name, row) {
  cells[name].forEach((td, column) => {
    td.textContent = row ? cell(row[column], column, (v) => String(Number(v.toPrecision(4))).replace("-", "−")) : "";
  });
}

// Give the original of a row (D,), null where the page does not hold it.
function originalValues(row) {
  const [D, place] = [facts.columns.length, originalOf[row]];
  return place < 0 ? null : values.subarray(place * D, place * D + D);
}

function showHere(y) {
  if (facts.image) tiles.here.paint(y);
  else write("here", raw(y));
}

let rowShown = -2;
function showRow(row, close) {
  $("probe").classList.toggle("far", !close);
  $("row").textContent = row < 0 ? "" : `${close ? "" : "nearest: "}${describe(row)}`;
  $("row").title = row < 0 ? "" : describe(row, String);
  if (row === rowShown) return;
  rowShown = row;
  if (facts.image) {
    tiles.original.paintOriginal(row < 0 ? -1 : originalOf[row]);
    if (row >= 0) tiles.rebuilt.paint(decode(code(row)));
    else tiles.rebuilt.paintOriginal(-1);
  } else {
    write("original", row < 0 ? null : originalValues(row));
    write("rebuilt", row < 0 ? null : raw(decode(code(row))));
  }
}

// Say which row it is, its label, its error, its score: "row 12 · species setosa · mse 0.0034 · score 5.1 (p 0.02)".
function describe(row, shown = ending) {
  const parts = [`row ${rowNumbers[row] + 1}`];
  if (labelNumbers) parts.push(`${facts.label} ${label(row) || "(none)"}`);
  parts.push(`mse ${short(mse[row])}`);
  if (scores) parts.push(`score ${short(scores[row])} (p ${short(shareBeyond[row])})`);
  for (const [name, { [row]: value }] of Object.entries(facts.kept)) {
    if (value) parts.push(name === "path" ? shown(value) : `${name} ${shown(value)}`);
  }
  if (originalOf[row] < 0) parts.push("original not in the page");
  return parts.join(" · ");
}

// Write a path that is long by its end, which tells the most: …/cats/0001.png.
function ending(text) {
  const parts = text.split(/[/\\]/);
  return text.length > 32 && parts.length > 3 ? `…/${parts.slice(-2).join("/")}` : text;
}

// ---- what colours the points, and the legend ----

const MAX_ENTRIES = 200;
const NO_LABEL = "(no label)";

// What the page may colour by: a name, the names of its classes, and the class of each row.
const colourings = facts.colours.map((each, i) => ({ ...each, of: numbers(`colour-${i}`, Uint32Array) }));

let colouring; // the one that is chosen
let counts; // of its classes, how many rows they have
let wanted; // and whether their boxes are ticked
const classOf = (row) => colouring.of[row];

function setColouring(number) {
  colouring = colourings[number];
  counts = new Uint32Array(colouring.classes.length);
  for (let row = 0; row < N; row++) counts[classOf(row)]++;
  wanted = new Uint8Array(colouring.classes.length).fill(1);
  const quiet = colouring.classes.indexOf(NO_LABEL); // beneath the others; what is strange above them
  const rank = (row) => (isStrange(row) ? 2 : classOf(row) === quiet ? 0 : 1);
  cloud.order = shuffled(N).sort((a, b) => rank(a) - rank(b));
}
setColouring(facts.colour);

// Give the colour variable and the shape of each class: ten colours, then the same in the next shape.
function looks() {
  return colouring.classes.map((name, i) => {
    if (name === NO_LABEL) return ["--none", "circle"];
    if (colouring.ranged) return [`--range-${i}`, "circle"];
    return [`--class-${i % 10}`, SHAPES[Math.floor(i / 10) % SHAPES.length]];
  });
}

const found = () => {
  const text = $("search").value.trim().toLowerCase();
  return (i) => colouring.classes[i].toLowerCase().includes(text);
};

// Make the legend. `recoloured` is called when another column colours, `changed` when other rows are to be shown.
function makeLegend(recoloured, changed) {
  const list = () => {
    const { classes } = colouring;
    $("legend").classList.toggle("short", classes.every((name) => name.length <= 8));
    const matches = [...classes.keys()].filter(found());
    const look = looks();
    $("legend").replaceChildren(
      ...matches.slice(0, MAX_ENTRIES).map((i) => {
        const box = make("input", { type: "checkbox", checked: Boolean(wanted[i]) });
        box.addEventListener("change", () => {
          wanted[i] = box.checked;
          changed();
        });
        const swatch = make("span", { className: `swatch ${look[i][1]}` });
        swatch.style.setProperty("--colour", `var(${look[i][0]})`);
        const only = make("button", { type: "button", textContent: "only" });
        only.setAttribute("aria-label", `Show only ${classes[i]}`);
        only.addEventListener("click", () => {
          wanted.fill(0);
          wanted[i] = 1;
          list();
          changed();
        });
        const name = make("span", { className: "name", textContent: ending(classes[i]), title: classes[i] });
        const count = make("span", { className: "count", textContent: counts[i].toLocaleString("en") });
        return make("li", {}, make("label", {}, box, swatch, name, count), only);
      }),
    );
    if (matches.length > MAX_ENTRIES) {
      const more = `and ${(matches.length - MAX_ENTRIES).toLocaleString("en")} more: search for them`;
      $("legend").append(make("li", { className: "quiet", textContent: more }));
    }
  };
  const tick = (value) => () => {
    const match = found();
    for (const i of colouring.classes.keys()) if (match(i)) wanted[i] = value;
    list();
    changed();
  };
  $("colour").append(...colourings.map(({ name }, i) => make("option", { value: i, textContent: name })));
  $("colour").value = facts.colour;
  $("colour").addEventListener("change", () => {
    setColouring(Number($("colour").value));
    $("search").value = "";
    list();
    recoloured();
  });
  $("all").addEventListener("click", tick(1));
  $("none").addEventListener("click", tick(0));
  $("search").addEventListener("input", () => {
    list();
    changed();
  });
  list();
}

// Mark the rows whose class is ticked and found by the search as shown.
function filterRows() {
  const match = found();
  const passes = colouring.classes.map((_, i) => wanted[i] && match(i));
  let count = 0;
  for (let row = 0; row < N; row++) count += cloud.shown[row] = passes[classOf(row)] ? 1 : 0;
  $("shown").textContent = count === N ? "" : `${count.toLocaleString("en")} of ${N.toLocaleString("en")} rows shown`;
}

// ---- the selection ----

function describeSelection() {
  let count = 0, error = 0;
  const { classes } = colouring;
  const byClass = new Uint32Array(classes.length);
  for (let row = 0; row < N; row++) {
    if (!cloud.selected?.[row]) continue;
    count++;
    error += mse[row];
    byClass[classOf(row)]++;
  }
  $("download").disabled = $("clear").disabled = count === 0;
  if (!count) return "Draw around rows with the lasso, or take all that are in view.";
  const parts = [`${count.toLocaleString("en")} ${count === 1 ? "row" : "rows"}, mean mse ${short(error / count)}`];
  if (classes.length > 1) {
    const most = [...classes.keys()].filter((i) => byClass[i]).sort((a, b) => byClass[b] - byClass[a]);
    parts.push(most.slice(0, 4).map((i) => `${classes[i]}: ${byClass[i].toLocaleString("en")}`).join(", "));
    if (most.length > 4) parts[1] += ` and ${most.length - 4} more`;
  }
  return parts.join(". ") + ".";
}

// Write the selected rows as CSV: row (counted from 1), label, kept columns, mse, score, p, z0, ..., and a table's own columns.
function csv() {
  const names = ["row", ...(labelNumbers ? [facts.label] : []), ...Object.keys(facts.kept), "mse", ...(scores ? ["score", "p"] : [])];
  for (let k = 0; k < K; k++) names.push(`z${k}`);
  for (let name of facts.columns ?? []) {
    while (names.includes(name)) name += "_"; // no two columns bear one name
    names.push(name);
  }
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [names.map(quoted).join(",")];
  const number = facts.wide ? String : exact;
  for (let row = 0; row < N; row++) {
    if (!cloud.selected?.[row]) continue;
    const line = [rowNumbers[row] + 1, ...(labelNumbers ? [quoted(label(row))] : [])];
    for (const name of Object.keys(facts.kept)) line.push(quoted(facts.kept[name][row]));
    line.push(exact(mse[row]), ...(scores ? [exact(scores[row]), exact(shareBeyond[row])] : []));
    for (const value of code(row)) line.push(exact(value));
    const original = facts.columns && originalValues(row);
    facts.columns?.forEach((_, i) => line.push(original ? quoted(cell(original[i], i, number)) : ""));
    lines.push(line.join(","));
  }
  return lines.join("\n") + "\n";
}

function download() {
  const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  make("a", { href: url, download: `${facts.model.replace(/\.safetensors$/, "")}-selection.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
