// The plane decoded behind the points: a lattice of images, each where it belongs, as faint strokes of ink.
// Those in view are decoded a few at a time, and kept while the map is only moved. The decoder never learned what is
// far from all rows: there they are fainter.

const lattice = { on: false, tiles: new Map(), pitch: 0, kx: 0, ky: 0 };
const TILE = 46; // CSS pixels, about
const SLICE = 6; // milliseconds a frame that decoding may take
const INK = 0.4; // how dark the darkest stroke is, 0 to 1
const FAINT = 0.2; // of that, where no row is near

function forgetBackdrop() {
  lattice.tiles.clear();
}

// Lay the lattice under the points: `pixels` are an image's, in which the plane's origin is at (ox, oy).
// Gives whether some of it is still to be decoded.
function drawBackdrop(pixels, width, height, ox, oy) {
  const [rows, columns] = facts.image;
  const times = Math.max(1, Math.round((TILE * view.ratio) / Math.max(rows, columns)));
  const [w, h] = [columns * times, rows * times]; // of a tile, in pixels
  if (lattice.kx !== view.kx || lattice.ky !== view.ky || lattice.pitch !== w) {
    forgetBackdrop();
    Object.assign(lattice, { kx: view.kx, ky: view.ky, pitch: w });
  }
  const end = performance.now() + SLICE;
  let missing = false;
  for (let j = Math.floor(-oy / h); j * h + oy < height; j++) {
    for (let i = Math.floor(-ox / w); i * w + ox < width; i++) {
      const key = `${i},${j}`;
      let tile = lattice.tiles.get(key);
      if (!tile && performance.now() < end) {
        const place = [((i + 0.5) * w) / view.ratio / view.kx, (-(j + 0.5) * h) / view.ratio / view.ky];
        tile = strokes(decode(codeAt(...place)), INK * (FAINT + (1 - FAINT) * near(...place)));
        lattice.tiles.set(key, tile);
      }
      if (tile) lay(tile, times, pixels, width, height, Math.round(i * w + ox), Math.round(j * h + oy));
      else missing = true;
    }
  }
  return missing;
}

// Give how surely rows lie near a place of the plane, 0 for none to 1 for many: within a tile when all rows are in view.
function near(x, y) {
  const across = view.fitted / TILE, up = (across * view.ky) / view.kx;
  let count = 0;
  for (let row = 0; row < N; row++) {
    const dx = (cloud.x[row] - x) * across, dy = (cloud.y[row] - y) * up;
    if (dx * dx + dy * dy < 1) count++;
  }
  return count / (count + Math.max(0.5, N / 2000));
}

// Give the colours of an image of what the decoder gave (E,), one a pixel of the data; its darkest stroke has `ink`.
// Grey images are ink wherever they differ from the corner of the mean's image, so that the ground stays the ground.
function strokes(y, ink) {
  const [rows, columns, channels] = facts.image;
  const level = (i) => Math.min(1, Math.max(0, (y[i] * scale[i] + shift[i] - facts.black) / (facts.white - facts.black)));
  lattice.corner ??= (decode(mean)[0] * scale[0] + shift[0] - facts.black) / (facts.white - facts.black);
  return Uint32Array.from({ length: rows * columns }, (_, p) => {
    if (channels < 3) return blend(ground, paper, ink * Math.abs(level(p * channels) - lattice.corner));
    const [r, g, b] = [0, 1, 2].map((c) => Math.round(255 * level(p * channels + c)));
    return blend(ground, (b << 16) | (g << 8) | r, ink);
  });
}

function blend(under, over, share) {
  const a = Math.round(256 * share);
  const rb = ((Math.imul(under & 0xff00ff, 256 - a) + Math.imul(over & 0xff00ff, a)) >>> 8) & 0xff00ff;
  const g = ((Math.imul(under & 0xff00, 256 - a) + Math.imul(over & 0xff00, a)) >>> 8) & 0xff00;
  return (0xff000000 | rb | g) >>> 0;
}

// Copy a tile, each of its pixels `times` as wide and high, to a place in an image.
function lay(tile, times, pixels, width, height, left, top) {
  const [rows, columns] = facts.image;
  const from = Math.max(0, left);
  const to = Math.min(width, left + columns * times);
  for (let y = Math.max(0, top); y < Math.min(height, top + rows * times); y++) {
    const line = Math.floor((y - top) / times) * columns;
    for (let x = from; x < to; x++) pixels[y * width + x] = tile[line + Math.floor((x - left) / times)];
  }
}
