// The numbers of the page, the decoder, and the axes of the plane.
// N rows, D values a row, E inputs of the model, K latent values a row. z is a code, y what the decoder gives for it.

const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);

function bytes(id) {
  const text = atob($(id).textContent);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

const numbers = (id, Type) => ($(id) ? new Type(bytes(id).buffer) : null);

const codes = numbers("codes", Float32Array); // (N, K)
const mse = numbers("mse", Float32Array); // (N,)
const scores = numbers("scores", Float32Array); // (N,), null where the model has no score
const shareBeyond = numbers("p", Float32Array); // (N,)
const rowNumbers = numbers("row-numbers", Uint32Array); // (N,), counted from 0
const labelNumbers = numbers("label-numbers", Uint32Array); // (N,), places in facts.labels
const mean = numbers("mean", Float32Array); // (K,)
const components = numbers("components", Float32Array); // (P, K)
const scale = numbers("scale", Float64Array); // (E,)
const shift = numbers("shift", Float64Array); // (E,)
const K = mean.length;
const N = mse.length;

const code = (row) => codes.subarray(row * K, row * K + K);
const isStrange = (row) => scores !== null && scores[row] >= facts.threshold;
const label = (row) => (labelNumbers ? facts.labels[labelNumbers[row]] : "");

// Which original each row has: its place among those that the page holds, -1 where it is none of them.
const originalOf = new Int32Array(N).fill(-1);
numbers("held", Uint32Array).forEach((row, place) => {
  originalOf[row] = place;
});

// ---- the decoder ----

const ACTIVATIONS = {
  none: (v) => v,
  relu: (v) => (v > 0 ? v : 0),
  gelu: (v) => 0.5 * v * (1 + Math.tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))), // Hendrycks and Gimpel 2016
  silu: (v) => v / (1 + Math.exp(-v)),
  elu: (v) => (v > 0 ? v : Math.expm1(v)),
  tanh: Math.tanh,
  sigmoid: (v) => 1 / (1 + Math.exp(-v)),
};

const layers = (() => {
  const all = numbers("weights", Float32Array);
  let at = 0;
  const taken = (count) => all.subarray(at, (at += count));
  return facts.layers.map(([wide, out, activation, convolution]) => {
    const kernel = convolution && convolution.kernel ** 2 * convolution.images[0][2] * convolution.images[1][2];
    const weight = taken(kernel ?? wide * out); // (out, wide), or (in, out, kernel, kernel)
    const bias = taken(convolution ? convolution.images[1][2] : out);
    const apply = convolution ? transposed(convolution, weight, bias) : dense(wide, out, weight, bias);
    return { apply, activation: ACTIVATIONS[activation] };
  });
})();

// Decode a code (K,) to (E,) in the model's units.
function decode(z) {
  let x = Float64Array.from(z);
  for (const { apply, activation } of layers) {
    x = apply(x);
    for (let i = 0; i < x.length; i++) x[i] = activation(x[i]);
  }
  return x;
}

function dense(wide, out, weight, bias) {
  const four = wide - (wide % 4);
  return (x) => {
    const y = new Float64Array(out);
    for (let o = 0, w = 0; o < out; o++) {
      let a = bias[o], b = 0, c = 0, d = 0; // four sums, which the processor adds up side by side
      let i = 0;
      for (; i < four; i += 4, w += 4) {
        a += weight[w] * x[i];
        b += weight[w + 1] * x[i + 1];
        c += weight[w + 2] * x[i + 2];
        d += weight[w + 3] * x[i + 3];
      }
      for (; i < wide; i++, w++) a += weight[w] * x[i];
      y[o] = a + b + c + d;
    }
    return y;
  };
}

// A transposed convolution of an image (H W C): each pixel times the kernels, added up where they meet.
function transposed({ images: [[height, width, before], [tall, wide, after]], kernel, stride, padding }, weight, bias) {
  return (x) => {
    const y = Float64Array.from({ length: tall * wide * after }, (_, i) => bias[i % after]);
    for (let place = 0; place < height * width; place++) {
      const top = Math.floor(place / width) * stride - padding, left = (place % width) * stride - padding;
      for (let c = 0, w = 0; c < before; c++) {
        const value = x[place * before + c];
        for (let o = 0; o < after; o++)
          for (let i = top; i < top + kernel; i++)
            for (let j = left; j < left + kernel; j++, w++)
              if (i >= 0 && i < tall && j >= 0 && j < wide) y[(i * wide + j) * after + o] += value * weight[w];
      }
    }
    return y;
  };
}

// Bring what the decoder gave (E,) to the data's own units (D,): a category becomes the likeliest.
function raw(y) {
  const values = y.map((v, i) => v * scale[i] + shift[i]);
  if (!facts.categories) return values;
  let at = 0;
  return Float64Array.from(facts.categories, (names) => {
    const start = at;
    at += names.length || 1;
    if (!names.length) return values[start];
    let best = start;
    for (let i = start; i < at; i++) if (values[i] > values[best]) best = i;
    return best - start;
  });
}

// ---- the axes ----

// An axis has a direction (K,) and an offset: a code's place on it is z · direction - offset.
const axes = [];
for (let p = 0; p < components.length / K && K > 1; p++) {
  const direction = components.subarray(p * K, p * K + K);
  const share = Math.round(facts.shares[p] * 1000) / 10;
  const name = `PC ${p + 1} (${share}% of variance)`;
  axes.push({ id: `pc${p + 1}`, name, direction, offset: dot(mean, direction), component: true });
}
for (let k = 0; k < K; k++) {
  const direction = new Float32Array(K);
  direction[k] = 1;
  axes.push({ id: `z${k}`, name: `z${k}`, direction, offset: 0, component: false });
}
if (K === 1) {
  const direction = new Float32Array(1);
  axes.push({ id: "spread", name: "(no meaning: spread)", direction, offset: 0, component: false });
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

const placeOn = (axis, z) => dot(z, axis.direction) - axis.offset;

// Give all rows' places on an axis. One latent value alone is spread over a height without meaning.
function placesOn(axis) {
  axis.places ??= Float32Array.from({ length: N }, (_, row) =>
    axis.id === "spread" ? ((row * 0.6180339887498949) % 1) - 0.5 : placeOn(axis, code(row)),
  );
  return axis.places;
}

// Move a code by as little as possible so that its places on two axes become x and y.
function movedTo(z, [across, up], x, y) {
  const u = across.direction;
  const v = up.direction;
  const dx = x - placeOn(across, z);
  const dy = y - placeOn(up, z);
  const uu = dot(u, u), uv = dot(u, v), vv = dot(v, v);
  const determinant = uu * vv - uv * uv;
  const parallel = determinant < 1e-9; // one latent value alone, or a component that is one
  const a = parallel ? dx / uu : (dx * vv - dy * uv) / determinant;
  const b = parallel ? 0 : (dy * uu - dx * uv) / determinant;
  return Float64Array.from(z, (value, k) => value + a * u[k] + b * v[k]);
}

// ---- numbers as text ----

// Write a float32 with as few digits as name it.
function exact(value) {
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

const short = (value) => String(Number(value.toPrecision(3))).replace("-", "−");

// Write a value of a column as its kind has it.
function cell(value, column, number) {
  const kind = facts.kinds[column];
  if (Number.isNaN(value)) return "";
  if (kind === "boolean") return value > 0.5 ? "true" : "false";
  if (kind === "category") return facts.categories[column][value] ?? "";
  if (kind === "date") return time(Math.round(value / 86400) * 864e5).slice(0, 10);
  if (kind === "timestamp") return time(Math.round(value * 1000));
  return number(value);
}

// Write milliseconds since 1970 as a date and a time; nothing where no calendar goes.
function time(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString().replace("Z", "");
}
