// The map at work: where the probe is and what is decoded there, morphs, the selection, and a frame's drawing.

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
  morphing: false, // whether the morph is what is shown, and not the probe
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

// Say what the plane means now; where that is `changed`, what is decoded behind the points is too.
function newMeaning(changed = true) {
  sayMeaning();
  if (changed) forgetBackdrop();
  redraw(changed);
}

function sayMeaning() {
  const parts = [];
  if (K === 1) parts.push("Across is the one latent value. The height has no meaning: it spreads the rows out.");
  if (K === 2) parts.push("A place on the map is a pair of latent values: nothing else is left to choose.");
  if (K > 2) {
    const whose = {
      around: `are taken from the ${AROUND} rows around a place, the nearer the more: at a row they are its own`,
      mean: "are held at the mean of all rows",
      row: `are held at ${state.pinned < 0 ? "the mean until a row is selected" : `row ${rowNumbers[state.pinned] + 1}'s`}`,
    }[$("others").value];
    parts.push(`The map shows 2 of ${K} directions. The others ${whose}.`);
  }
  if (state.plane.some((axis) => axis.component)) parts.push("Components are turned back into latent values.");
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
  const all = stalePoints;
  stale = stalePoints = false;
  if (all) {
    if (drawPoints()) redraw(true);
    drawAxes(state.plane);
  }
  showProbe();
  drawOverlay();
}

let colours = {};
let paints = []; // of each class: a colour as 0xBBGGRR, and a shape
let ground = 0; // the map's own colour, and the colour of ink on it
let paper = 0;

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
  paper = bgr(colours.ink);
  forgetBackdrop();
  probe.remove();
  redraw(true);
}

function showProbe() {
  if (state.morphing) showHere(decode(between(state.morph.from.z, state.morph.to.z, state.along)));
  else if (state.at) showHere(decode(codeAt(...state.at)));
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
  }
  if (state.at && !state.morphing) {
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
  state.morphing = false;
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
  newMeaning($("others").value === "row");
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
  if (!state.morph) $("morph").classList.toggle("high", toScreen(...from.at)[1] > view.height / 2); // out of the way
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
  state.morphing = true;
  $("along").value = along;
  $("along").setAttribute("aria-valuetext", `${Math.round(along * 100)}% of the way`);
  redraw();
}

function closeMorph() {
  stop();
  state.morph = null;
  state.morphing = false;
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
