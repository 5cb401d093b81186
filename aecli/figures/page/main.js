// The controls beside the map, and the start.

const LONGER = 4; // times: components share a unit, latent values do where they range over about as much

function refit() {
  const [components, spread] = [state.plane.every((axis) => axis.component), state.plane.some((axis) => axis.id === "spread")];
  fit(components ? Infinity : spread ? 0 : LONGER);
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
  newMeaning();
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
  $("others").addEventListener("change", () => newMeaning());
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
  let error = 0, strange = 0;
  for (let row = 0; row < N; row++) {
    error += mse[row] / N;
    strange += isStrange(row);
  }
  $("title").textContent = facts.model;
  const size = `${text(inputs)} inputs in ${text(K)} ${K === 1 ? "value" : "values"}`;
  $("summary").textContent = `${facts.data} · ${text(N)} rows · ${size} · mean mse ${short(error)}`;
  $("notes").textContent = facts.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`).join(" ");
  if (scores) $("strange").textContent = `Outlined: ${text(strange)} of ${text(N)} rows, whose p is at most ${facts.alpha}.`;
  $("selected").textContent = describeSelection();
  makeProbe();
  makeAxes();
  setPlane(true);
  const filtered = () => {
    filterRows();
    sortIntoGrid();
    newMeaning($("others").value === "around");
    redraw(true);
  };
  const recoloured = () => {
    readColours();
    $("selected").textContent = describeSelection();
    filtered();
  };
  makeLegend(recoloured, filtered);
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
  lattice.on = $("backdrop").checked = Boolean(facts.image) && K === 2;
  $("backdrop-label").hidden = !facts.image;
  $("backdrop").addEventListener("change", () => {
    lattice.on = $("backdrop").checked;
    redraw(true);
  });
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
  clearTimeout(waiting); // nobody asked yet
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
