// The scatter: a view of the plane, points blended into an image by hand, and who is near.
// Drawing 100,000 points in this way takes no graphics card, which a remote desktop or a test has not.

const SHAPES = ["circle", "triangle", "square", "diamond"];
const INSIDE = {
  circle: (x, y, r) => x * x + y * y <= r * r,
  triangle: (x, y, r) => y <= r * 0.8 && y >= -r * 1.15 + 2.1 * Math.abs(x),
  square: (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) <= r * 0.87,
  diamond: (x, y, r) => Math.abs(x) + Math.abs(y) <= r * 1.2,
};

const points = $("points");
const pen = points.getContext("2d", { alpha: false });
const view = { x: 0, y: 0, kx: 1, ky: 1, width: 1, height: 1, ratio: 1, fitted: 1 }; // centre, CSS pixels a unit

const toScreen = (x, y) => [(x - view.x) * view.kx + view.width / 2, (view.y - y) * view.ky + view.height / 2];
const toPlane = (px, py) => [(px - view.width / 2) / view.kx + view.x, view.y - (py - view.height / 2) / view.ky];

// The places of all rows on the two axes, which rows are shown, and which are selected (null: no selection).
const cloud = { x: null, y: null, shown: new Uint8Array(N).fill(1), selected: null, order: shuffled(N) };

// Give the numbers below n in an order that is always the same, so that no class is painted over the others.
function shuffled(n) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = 1;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // Numerical Recipes, section 7.1
    const j = Math.floor((state / 4294967296) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

const [SIDE, ABOVE, BELOW] = [44, 64, 48]; // CSS pixels that are left free around the points

// Bring all shown rows into view, at one scale unless one axis ranges over `longer` times as much as the other.
function fit(longer) {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < N; i++) {
    if (!cloud.shown[i]) continue;
    left = Math.min(left, cloud.x[i]);
    right = Math.max(right, cloud.x[i]);
    low = Math.min(low, cloud.y[i]);
    high = Math.max(high, cloud.y[i]);
  }
  if (left > right) return;
  view.kx = (view.width - 2 * SIDE) / (right - left || 1);
  view.ky = (view.height - ABOVE - BELOW) / (high - low || 1);
  const [least, most] = [Math.min(right - left, high - low), Math.max(right - left, high - low)];
  if (most <= longer * least) view.kx = view.ky = Math.min(view.kx, view.ky);
  view.x = (left + right) / 2;
  view.y = (low + high) / 2 + (ABOVE - BELOW) / 2 / view.ky;
  view.fitted = view.kx;
}

function zoom(factor, px = view.width / 2, py = view.height / 2) {
  const free = Math.min(Math.max((view.kx * factor) / view.fitted, 0.2), 2000) / (view.kx / view.fitted);
  const [x, y] = toPlane(px, py);
  view.kx *= free;
  view.ky *= free;
  view.x = x - (px - view.width / 2) / view.kx;
  view.y = y + (py - view.height / 2) / view.ky;
}

// ---- drawing ----

// Give the pixels of one point, and how much of each it covers, in 256ths: offsets into an image of some width.
function stamp(shape, radius, width) {
  const reach = Math.ceil(radius * 1.25);
  const places = [], covers = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      let inside = 0;
      for (let s = 0; s < 16; s++) inside += INSIDE[shape](x + (s % 4) / 4 - 0.375, y + (s >> 2) / 4 - 0.375, radius);
      if (inside) {
        places.push(y * width + x);
        covers.push(inside * 16);
      }
    }
  }
  return { places: Int32Array.from(places), covers: Int32Array.from(covers), reach };
}

let picture = null; // kept between frames, as big as the canvas and a margin around it

// Give how large a point is drawn: smaller the more there are, larger as one comes near.
function radius() {
  const alone = Math.min(4.5, Math.max(1.2, 200 / Math.sqrt(N)));
  return Math.min(5.5, alone * Math.max(1, view.kx / view.fitted) ** 0.35);
}

// Draw all shown points, on what the plane decodes to where that is wanted. Gives whether that is still incomplete.
function drawPoints() {
  const size = radius() * view.ratio;
  const outer = size + 1.6 * view.ratio; // of what is strange
  const edge = Math.ceil((scores ? outer : size) * 1.25);
  const width = points.width + 2 * edge;
  const height = points.height + 2 * edge;
  if (picture?.width !== width || picture.height !== height) picture = new ImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  pixels.fill(blend(ground, ground, 0));
  const stamps = Object.fromEntries(SHAPES.map((shape) => [shape, stamp(shape, size, width)]));
  const rims = Object.fromEntries(SHAPES.map((shape) => [shape, stamp(shape, outer, width)]));
  const byClass = paints.map(([colour, shape]) => ({ colour, stamp: stamps[shape], rim: rims[shape] }));
  const { x, y, shown, selected, order } = cloud;
  const [kx, ky] = [view.kx * view.ratio, view.ky * view.ratio];
  const [left, top] = [points.width / 2 - view.x * kx + edge, points.height / 2 + view.y * ky + edge];
  const missing = lattice.on && drawBackdrop(pixels, width, height, left, top);
  const strong = N > 20000 ? 150 : 205;
  const put = ({ places, covers }, colour, middle, alpha) => {
    const red = colour & 0xff00ff, green = colour & 0xff00;
    for (let i = 0; i < places.length; i++) {
      const a = (covers[i] * alpha) >> 8;
      const under = pixels[middle + places[i]];
      const rb = ((Math.imul(under & 0xff00ff, 256 - a) + Math.imul(red, a)) >>> 8) & 0xff00ff;
      const g = ((Math.imul(under & 0xff00, 256 - a) + Math.imul(green, a)) >>> 8) & 0xff00;
      pixels[middle + places[i]] = 0xff000000 | rb | g;
    }
  };
  for (let n = 0; n < N; n++) {
    const row = order[n];
    if (!shown[row]) continue;
    const px = Math.round(x[row] * kx + left);
    const py = Math.round(top - y[row] * ky);
    if (px < edge || py < edge || px >= width - edge || py >= height - edge) continue;
    const { colour, stamp, rim } = byClass[classOf(row)];
    const alpha = !selected ? strong : selected[row] ? 235 : 40;
    const middle = py * width + px;
    const strange = isStrange(row);
    if (strange) put(rim, paper, middle, alpha);
    put(stamp, colour, middle, strange && !selected ? 256 : alpha); // or the outline would shine through
  }
  pen.putImageData(picture, -edge, -edge);
  return missing;
}

// Write ticks and the axes' names along the lower and the left side, each with a rim of the map's own colour.
function drawAxes([across, up]) {
  pen.save();
  pen.scale(view.ratio, view.ratio);
  pen.fillStyle = colours.quiet;
  pen.strokeStyle = colours.ground;
  pen.lineWidth = 5;
  pen.lineJoin = "round";
  const write = (text, px, py, align, font = "11px system-ui, sans-serif") => {
    Object.assign(pen, { textAlign: align, font });
    pen.strokeText(text, px, py);
    pen.fillText(text, px, py);
  };
  const [left, top] = toPlane(0, 0);
  const [right, bottom] = toPlane(view.width, view.height);
  for (const x of ticks(left, right, view.width / 110)) {
    const [px] = toScreen(x, 0);
    if (px < 60 || px > view.width - 40) continue;
    pen.fillRect(Math.round(px), view.height - 5, 1, 5);
    write(short(x), px, view.height - 9, "center");
  }
  write(`${across.name} →`, view.width - 12, view.height - 27, "right", "600 12px system-ui, sans-serif");
  if (up.id !== "spread") {
    for (const y of ticks(bottom, top, view.height / 90)) {
      const [, py] = toScreen(0, y);
      if (py < 84 || py > view.height - 44) continue;
      pen.fillRect(0, Math.round(py), 5, 1);
      write(short(y), 9, py + 4, "left");
    }
    write(`↑ ${up.name}`, 12, 66, "left", "600 12px system-ui, sans-serif");
  }
  pen.restore();
}

// Give round numbers between two, about so many.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(2, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => power * times >= rough);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
  return found;
}

// ---- who is near ----

// A grid over the plane: the shown rows by the cell that they lie in.
let grid = null;

function sortIntoGrid() {
  const { x, y, shown } = cloud;
  const rows = [];
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let row = 0; row < N; row++) {
    if (!shown[row]) continue;
    rows.push(row);
    left = Math.min(left, x[row]);
    right = Math.max(right, x[row]);
    low = Math.min(low, y[row]);
    high = Math.max(high, y[row]);
  }
  const side = Math.min(256, Math.max(1, Math.ceil(Math.sqrt(rows.length / 2))));
  const [w, h] = [(right - left) / side || 1, (high - low) / side || 1];
  const clamp = (n) => Math.min(side - 1, Math.max(0, Math.floor(n)));
  const cellOf = (px, py) => [clamp((px - left) / w), clamp((py - low) / h)];
  const starts = new Uint32Array(side * side + 1);
  const cells = rows.map((row) => {
    const [cx, cy] = cellOf(x[row], y[row]);
    starts[cy * side + cx + 1]++;
    return cy * side + cx;
  });
  for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
  const next = starts.slice();
  const sorted = new Uint32Array(rows.length);
  rows.forEach((row, i) => {
    sorted[next[cells[i]]++] = row;
  });
  grid = { side, w, h, starts, sorted, cellOf };
}

// Give the shown rows nearest to a place on the screen, nearest first, as [squared distance in pixels, row].
function nearest(px, py, count) {
  const { side, w, h, starts, sorted, cellOf } = grid;
  const { x, y } = cloud;
  const [cx, cy] = cellOf(...toPlane(px, py));
  const cellSize = Math.min(w * view.kx, h * view.ky);
  const best = [];
  const look = (gx, gy) => {
    if (gx < 0 || gy < 0 || gx >= side || gy >= side) return;
    for (let i = starts[gy * side + gx]; i < starts[gy * side + gx + 1]; i++) {
      const row = sorted[i];
      const dx = (x[row] - view.x) * view.kx + view.width / 2 - px;
      const dy = (view.y - y[row]) * view.ky + view.height / 2 - py;
      const distance = dx * dx + dy * dy;
      if (best.length === count && distance >= best[count - 1][0]) continue;
      let at = Math.min(best.length, count - 1);
      while (at > 0 && best[at - 1][0] > distance) at--;
      best.splice(at, 0, [distance, row]);
      best.length = Math.min(best.length, count);
    }
  };
  for (let ring = 0; ring < side; ring++) {
    if (best.length === count && Math.sqrt(best[count - 1][0]) <= (ring - 1) * cellSize) break;
    for (let gx = cx - ring; gx <= cx + ring; gx++) {
      look(gx, cy - ring);
      if (ring) look(gx, cy + ring);
    }
    for (let gy = cy - ring + 1; gy < cy + ring; gy++) {
      look(cx - ring, gy);
      look(cx + ring, gy);
    }
  }
  return best;
}

// Give the shown rows inside a polygon of places [x, y] on the screen. Even-odd rule.
function rowsInside(polygon) {
  const inside = new Uint8Array(N);
  const corners = polygon.map(([px, py]) => toPlane(px, py));
  for (let row = 0; row < N; row++) {
    if (!cloud.shown[row]) continue;
    const [x, y] = [cloud.x[row], cloud.y[row]];
    for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
      const [ax, ay] = corners[i];
      const [bx, by] = corners[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside[row] ^= 1;
    }
  }
  return inside;
}
