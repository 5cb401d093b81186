// What moves the map, the probe, the lasso and the morph: the pointer, and the keys.

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
    if (!playing) probe(px, py);
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
    if (!cloud.shown[row]) continue;
    probeRow(row);
    return pin(row);
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
