// The map at work: what is under the pointer, what dragging does, the keys.

const map = $("map");
const overlay = $("overlay");
const ink = overlay.getContext("2d");
const NEAR = 9; // pixels
const AROUND = 8; // rows that lend a place their other values
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const state = {
  plane: null, // the two axes
  at: null, // where the probe is in the plane, [x, y]
  row: -1, // the row nearest to it
  close: false, // whether that row is under it
  pinned: -1, // the row that was selected by a click or Enter
  tool: "move",
  lasso: null, // its corners while it is drawn
  morph: null, // { from, to }, each { at, z, row }
  along: 0, // how far the morph has gone, 0 to 1
};

// ---- what a place decodes to ----

// Give the code (K,) of a place in the plane: the other values are what "Other values" says.
function codeAt(x, y) {
  const how = $("others").value;
  let z = mean;
  if (K > 2 && how === "row" && state.pinned >= 0) z = code(state.pinned);
  if (K > 2 && how === "around") {
    z = new Float64Array(K);
    let sum = 0;
    for (const [distance, row] of nearest(...toScreen(x, y), AROUND)) {
      const weight = 1 / (distance + 1e-6); // Shepard 1968: at a row it is the row
      sum += weight;
      code(row).forEach((value, k) => {
        z[k] += weight * value;
      });
    }
    z = sum ? z.map((value) => value / sum) : mean;
  }
  return movedTo(z, state.plane, x, y);
}

function sayMeaning() {
  const [across, up] = state.plane;
  const parts = [];
  if (K === 1) parts.push("Across is the one latent value; the height has no meaning, it spreads the rows out.");
  else if (K === 2) parts.push("A place on the map is a pair of latent values, and nothing else is left to choose.");
  else {
    const how = $("others").value;
    const others = across.component && up.component ? "what the other components say" : "the other values";
    const whose = {
      around: `taken from the ${AROUND} rows around, the nearer the more: at a row it is that row`,
      mean: "held at the mean of all rows",
      row: state.pinned >= 0 ? `held at those of row ${rowNumbers[state.pinned] + 1}` : "held at the mean until a row is selected",
    }[how];
    parts.push(`The map shows two of ${K} directions; to decode a place, ${others} ${others.endsWith("say") ? "is" : "are"} ${whose}.`);
  }
  if (across.component || up.component) parts.push("Components are turned back into latent values.");
  $("meaning").textContent = parts.join(" ");
}

// ---- drawing, once a frame ----

let stalePoints = false;
let stale = false;

function redraw(pointsToo = false) {
  stalePoints ||= pointsToo;
  if (!stale) requestAnimationFrame(draw);
  stale = true;
}

function draw() {
  if (stalePoints) {
    drawPoints(paints, ground);
    drawAxes(state.plane, colours.quiet);
  }
  stale = stalePoints = false;
  showProbe();
  drawOverlay();
}

let colours = {};
let paints = [];
let ground = 0;

// Read the colours that the style has now, light or dark.
function readColours() {
  const probe = make("span");
  document.body.append(probe);
  const read = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const bgr = (text) => {
    const [r, g, b] = text.match(/[\d.]+/g).map(Number);
    return (b << 16) | (g << 8) | r;
  };
  colours = { ink: read("--ink"), quiet: read("--quiet"), accent: read("--accent"), ground: read("--map") };
  paints = looks().map(([name, shape]) => [bgr(read(name)), shape]);
  ground = bgr(colours.ground);
  probe.remove();
  redraw(true);
}

function showProbe() {
  const along = state.morph && state.along;
  if (state.morph) {
    const { from, to } = state.morph;
    showHere(decode(between(from.z, to.z, along)));
    $("place").textContent = `${Math.round(along * 100)}% of the way`;
  } else if (state.at) {
    showHere(decode(codeAt(...state.at)));
    $("place").textContent = `${short(state.at[0])}, ${short(state.at[1])}`;
  }
  const pinned = !state.close && state.pinned >= 0;
  showRow(pinned ? state.pinned : state.row, pinned || state.close);
}

function drawOverlay() {
  ink.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  ink.clearRect(0, 0, view.width, view.height);
  const ring = (px, py, r, colour) => {
    for (const [width, paint] of [[4, colours.ground], [2, colour]]) {
      ink.beginPath();
      ink.arc(px, py, r, 0, 7);
      ink.lineWidth = width;
      ink.strokeStyle = paint;
      ink.stroke();
    }
  };
  const placeOf = (row) => toScreen(cloud.x[row], cloud.y[row]);
  if (state.pinned >= 0) ring(...placeOf(state.pinned), 9, colours.accent);
  if (state.row >= 0 && state.close) ring(...placeOf(state.row), 7, colours.ink);
  if (state.morph) {
    const [ax, ay] = toScreen(...state.morph.from.at);
    const [bx, by] = toScreen(...state.morph.to.at);
    for (const [width, paint] of [[5, colours.ground], [2, colours.accent]]) {
      ink.beginPath();
      ink.moveTo(ax, ay);
      ink.lineTo(bx, by);
      ink.lineWidth = width;
      ink.strokeStyle = paint;
      ink.stroke();
    }
    ring(ax, ay, 5, colours.accent);
    ring(bx, by, 5, colours.accent);
    ring(ax + (bx - ax) * state.along, ay + (by - ay) * state.along, 8, colours.ink);
  } else if (state.at) {
    const [px, py] = toScreen(...state.at);
    ink.fillStyle = colours.ink;
    for (const [x, y, w, h] of [[-12, 0, 8, 1], [5, 0, 8, 1], [0, -12, 1, 8], [0, 5, 1, 8]]) {
      ink.fillRect(Math.round(px) + x, Math.round(py) + y, w, h);
    }
  }
  if (state.lasso) {
    ink.beginPath();
    state.lasso.forEach(([px, py], i) => (i ? ink.lineTo(px, py) : ink.moveTo(px, py)));
    ink.closePath();
    ink.globalAlpha = 0.12;
    ink.fillStyle = colours.accent;
    ink.fill();
    ink.globalAlpha = 1;
    ink.lineWidth = 2;
    ink.strokeStyle = colours.accent;
    ink.stroke();
  }
}

// Tell a screen reader, when things have settled.
let waiting = 0;
function say(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    $("live").textContent = text;
  }, 250);
}

// ---- the probe, and a row that is selected ----

function probe(px, py) {
  state.at = toPlane(px, py);
  const [[distance, row] = [Infinity, -1]] = nearest(px, py, 1);
  state.row = row;
  state.close = distance <= NEAR * NEAR;
  const place = `${state.plane[0].id} ${short(state.at[0])}, ${state.plane[1].id} ${short(state.at[1])}`;
  if (row >= 0) say(state.close ? describe(row) : `${place}; nearest is ${describe(row)}`);
  redraw();
}

function pin(row) {
  state.pinned = row;
  if (row >= 0) say(`selected ${describe(row)}`);
  sayMeaning();
  redraw();
}

function probeRow(row) {
  state.at = [cloud.x[row], cloud.y[row]];
  let [px, py] = toScreen(...state.at);
  if (px < 0 || py < 0 || px > view.width || py > view.height) {
    [view.x, view.y] = state.at;
    redraw(true);
    [px, py] = [view.width / 2, view.height / 2];
  }
  probe(px, py);
  state.row = row; // of several at one place, this
  pin(row);
}

// ---- the morph ----

const between = (a, b, t) => Float64Array.from(a, (value, k) => value + (b[k] - value) * t);

// Give an end of a morph: the row that is near, with all its values, else the place.
function endAt(px, py) {
  const [[distance, row] = [Infinity, -1]] = nearest(px, py, 1);
  if (distance <= NEAR * NEAR) return { at: [cloud.x[row], cloud.y[row]], z: code(row), row };
  const at = toPlane(px, py);
  return { at, z: codeAt(...at), row: -1 };
}

const FRAMES = 9;
const frames = [];

function morph(from, to, along) {
  state.morph = { from, to };
  $("morph").hidden = false;
  if (facts.image && !frames.length) {
    for (let i = 0; i < FRAMES; i++) frames.push(new Tile($("frames")));
    $("frames").replaceChildren(...frames.map((tile) => tile.canvas));
  }
  frames.forEach((tile, i) => tile.paint(decode(between(from.z, to.z, i / (FRAMES - 1)))));
  setAlong(along);
}

function setAlong(along) {
  state.along = along;
  $("along").value = along;
  $("along").setAttribute("aria-valuetext", `${Math.round(along * 100)}% of the way`);
  redraw();
}

function closeMorph() {
  stop();
  state.morph = null;
  $("morph").hidden = true;
  redraw();
}

let playing = 0;
function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  $("play").textContent = "Play";
}

// Go to the end and back until stopped: two seconds a way.
function play() {
  if (playing) return stop();
  $("play").textContent = "Pause";
  const start = performance.now() - state.along * 2000;
  const step = (now) => {
    const turn = ((now - start) / 2000) % 2;
    setAlong(turn < 1 ? Math.max(0, turn) : 2 - turn);
    playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
}

// ---- the selection ----

function select(rows) {
  cloud.selected = rows?.includes(1) ? rows : null;
  const text = describeSelection();
  $("selected").textContent = text;
  say(text);
  redraw(true);
}

const selectView = () => select(rowsInside([[0, 0], [view.width, 0], [view.width, view.height], [0, view.height]]));

// ---- the pointer ----

const fingers = new Map();
let pressed = null; // where and how the pointer went down

const placeOf = (event) => {
  const box = map.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

map.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  const [px, py] = placeOf(event);
  fingers.set(event.pointerId, [px, py]);
  map.setPointerCapture(event.pointerId);
  pressed = { px, py, moved: false, tool: event.shiftKey ? "lasso" : state.tool, from: null };
  if (pressed.tool === "lasso") state.lasso = [[px, py]];
  if (pressed.tool === "morph") pressed.from = endAt(px, py);
});

map.addEventListener("pointermove", (event) => {
  const [px, py] = placeOf(event);
  const before = fingers.get(event.pointerId);
  if (!before) {
    if (!state.morph || event.pointerType !== "touch") probe(px, py);
    return;
  }
  if (fingers.size === 2) {
    const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    zoom(Math.hypot(px - other[0], py - other[1]) / Math.hypot(before[0] - other[0], before[1] - other[1]), ...other);
    pressed.moved = true;
    redraw(true);
  } else if (pressed.moved || Math.hypot(px - pressed.px, py - pressed.py) > 3) {
    pressed.moved = true;
    drag(px, py, before);
  }
  fingers.set(event.pointerId, [px, py]);
});

function drag(px, py, [bx, by]) {
  if (pressed.tool === "lasso") {
    state.lasso.push([px, py]);
    redraw();
  } else if (pressed.tool === "morph") {
    probe(px, py);
    morph(pressed.from, endAt(px, py), 1);
  } else {
    view.x -= (px - bx) / view.kx;
    view.y += (py - by) / view.ky;
    map.classList.add("moving");
    redraw(true);
  }
}

for (const name of ["pointerup", "pointercancel"]) {
  map.addEventListener(name, (event) => {
    if (!fingers.delete(event.pointerId)) return;
    map.classList.remove("moving");
    const lasso = state.lasso;
    state.lasso = null;
    if (pressed.moved && lasso) select(rowsInside(lasso));
    else if (!pressed.moved && name === "pointerup") tap(...placeOf(event));
    redraw();
  });
}

function tap(px, py) {
  closeMorph();
  probe(px, py);
  pin(state.close && state.row !== state.pinned ? state.row : -1);
}

map.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    zoom(Math.exp(-event.deltaY * lines * 0.0016), ...placeOf(event));
    redraw(true);
  },
  { passive: false },
);

// ---- the keys ----

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const atProbe = () => (state.at ? toScreen(...state.at) : [view.width / 2, view.height / 2]);

function nextRow(step) {
  let row = state.row;
  for (let tries = 0; tries < N; tries++) {
    row = (row + step + N) % N;
    if (cloud.shown[row]) return probeRow(row);
  }
}

const KEYS = {
  "+": () => zoom(1.25, ...atProbe()),
  "=": () => zoom(1.25, ...atProbe()),
  "-": () => zoom(0.8, ...atProbe()),
  0: refit,
  PageDown: () => nextRow(1),
  PageUp: () => nextRow(-1),
  Enter: () => tap(...atProbe()),
  Escape: () => {
    if (state.morph) closeMorph();
    else if (state.pinned >= 0) pin(-1);
    else select(null);
  },
  a: () => {
    state.start = endAt(...atProbe());
    say("start of the morph set; B sets its end");
  },
  b: () => state.start && morph(state.start, endAt(...atProbe()), 1),
  v: () => setTool("move"),
  m: () => setTool("morph"),
  l: () => setTool("lasso"),
};

map.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  const key = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!arrow && !key) return;
  event.preventDefault();
  if (arrow) {
    const step = event.shiftKey ? 40 : 4;
    const [px, py] = atProbe();
    probe(
      Math.min(view.width, Math.max(0, px + arrow[0] * step)),
      Math.min(view.height, Math.max(0, py + arrow[1] * step)),
    );
  } else {
    key();
    redraw(true);
  }
});

function setTool(tool) {
  state.tool = tool;
  map.dataset.tool = tool;
  for (const input of document.getElementsByName("tool")) input.checked = input.value === tool;
}

// ---- the controls ----

function refit() {
  fit(state.plane.every((axis) => axis.component));
  redraw(true);
}

function setPlane(keepView = false) {
  state.plane = [$("x-axis"), $("y-axis")].map((select) => axes.find((axis) => axis.id === select.value));
  [cloud.x, cloud.y] = state.plane.map(placesOn);
  sortIntoGrid();
  state.at = null;
  state.row = -1;
  state.close = false;
  closeMorph();
  sayMeaning();
  if (!keepView) refit();
}

function makeAxes() {
  const start = K === 1 ? ["z0", "spread"] : K === 2 ? ["z0", "z1"] : ["pc1", "pc2"];
  const selects = [$("x-axis"), $("y-axis")];
  selects.forEach((select, i) => {
    const offered = axes.filter((axis) => K > 1 || axis.id === start[i]);
    select.append(...offered.map(({ id, name }) => make("option", { value: id, textContent: name })));
    select.value = start[i];
    let before = start[i];
    select.addEventListener("change", () => {
      const other = selects[1 - i];
      if (other.value === select.value) {
        other.value = before; // the axes change places
        other.dispatchEvent(new Event("swapped"));
      }
      before = select.value;
      setPlane();
    });
    select.addEventListener("swapped", () => {
      before = select.value;
    });
  });
  $("others-label").hidden = K < 3;
  $("others").addEventListener("change", () => {
    sayMeaning();
    redraw();
  });
}

function resize() {
  const box = map.getBoundingClientRect();
  const first = view.width === 1;
  view.ratio = Math.min(devicePixelRatio, 2);
  view.width = Math.max(1, box.width);
  view.height = Math.max(1, box.height);
  for (const canvas of [points, overlay]) {
    canvas.width = Math.round(view.width * view.ratio);
    canvas.height = Math.round(view.height * view.ratio);
  }
  if (first) refit();
  redraw(true);
}

function start() {
  const text = (n) => n.toLocaleString("en");
  const inputs = facts.layers.at(-1)[1];
  let error = 0;
  for (const value of mse) error += value / N;
  $("title").textContent = facts.model;
  $("summary").textContent =
    `${facts.data} · ${text(N)} rows · ${text(inputs)} inputs in ${text(K)} ${K === 1 ? "value" : "values"} · mean mse ${short(error)}`;
  $("notes").textContent = facts.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`).join(" ");
  $("selected").textContent = describeSelection();
  makeProbe();
  makeAxes();
  setPlane(true);
  makeLegend(() => {
    filterRows();
    sortIntoGrid();
    redraw(true);
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const scheme = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const named = () => {
    $("theme").textContent = scheme() === "dark" ? "Light" : "Dark";
    readColours();
  };
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = scheme() === "dark" ? "light" : "dark";
    named();
  });
  dark.addEventListener("change", named);
  named();
  for (const input of document.getElementsByName("tool")) input.addEventListener("change", () => setTool(input.value));
  $("zoom-in").addEventListener("click", () => (zoom(1.4), redraw(true)));
  $("zoom-out").addEventListener("click", () => (zoom(1 / 1.4), redraw(true)));
  $("fit").addEventListener("click", refit);
  $("take-view").addEventListener("click", selectView);
  $("download").addEventListener("click", download);
  $("clear").addEventListener("click", () => select(null));
  $("along").addEventListener("input", () => {
    stop();
    setAlong(Number($("along").value));
  });
  $("play").addEventListener("click", play);
  $("play").hidden = calm.matches;
  $("morph-close").addEventListener("click", closeMorph);
  if (sprite) {
    sprite.onload = () => {
      rowShown = -2;
      redraw();
    };
    sprite.src = `data:image/png;base64,${$("sprite").textContent}`;
  }
  new ResizeObserver(resize).observe(map);
  resize();
  probeRow(0);
  pin(-1);
}

start();

// For tests, and for the console: decode(z) in the model's units, raw(y) in the data's, where a row is in the window.
window.aecli = {
  decode,
  raw,
  code,
  codeAt,
  state,
  csv,
  place(row) {
    const box = map.getBoundingClientRect();
    const [px, py] = toScreen(cloud.x[row], cloud.y[row]);
    return [px + box.left, py + box.top];
  },
};
