// The numbers of the page: compressed JSON, in it arrays from base 64, addressed by their axes.

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

async function readData() {
  const compressed = new Blob([bytesOf(document.getElementById("data").textContent)]);
  const stream = compressed.stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

if (!("DecompressionStream" in window)) {
  document.getElementById("too-old").hidden = false;
  return;
}
const DATA = await readData();

// Half precision, which few browsers read themselves.
function halves(codes) {
  return Float32Array.from(codes, (code) => {
    const [sign, exponent, fraction] = [code & 0x8000 ? -1 : 1, (code >> 10) & 31, code & 1023];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
  });
}

// Arrays come with all first bytes of their numbers first, then all second ones.
function unshuffled(bytes, size) {
  const count = bytes.length / size;
  return Uint8Array.from(bytes, (_, i) => bytes[(i % size) * count + Math.floor(i / size)]);
}

function unpack(packed) {
  const bytes = unshuffled(bytesOf(packed.data), Number(packed.type[1]));
  const read = { u1: () => bytes, f4: () => new Float32Array(bytes.buffer), f2: () => halves(new Uint16Array(bytes.buffer)) };
  const values = read[packed.type]();
  const strides = packed.shape.map((_, i) => packed.shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const start = (index) => index.reduce((sum, i, axis) => sum + i * strides[axis], 0);
  return {
    at: (...index) => values[start(index)],
    // All entries below some leading indices: row(2, 0) of a (3, 4, 40) array holds 40 numbers.
    row: (...index) => values.subarray(start(index), start(index) + strides[index.length - 1]),
  };
}

const SCORES = Object.fromEntries(Object.entries(DATA.scores).map(([name, packed]) => [name, unpack(packed)]));
const CROSSOVERS = Object.fromEntries(
  ["hours", "lower", "upper", "start", "outcome"].map((key) => [key, unpack(DATA.crossovers[key])]),
);
const PAIRS = Object.fromEntries(
  ["ratio_lower", "ratio_upper", "significant", "p_geer"].filter((key) => DATA.pairs[key]).map((key) => [key, unpack(DATA.pairs[key])]),
);
const DAYS = DATA.hours.map((h) => h / 24);
const LAST_DAY = DAYS[DAYS.length - 1];

// The scores of a forecaster by lead; null where the page does not hold them for this variable in this region.
function scoreRow(name, forecaster, variable, region) {
  const place = DATA.places[variable][region];
  return place < 0 || !SCORES[name] ? null : SCORES[name].row(forecaster, place);
}

// RMSE of one forecaster over another's less one, with interval and significance, at every lead of a variable.
function comparison(a, b, variable, region) {
  const flipped = a > b;
  const pair = DATA.pairs.index.findIndex(([i, j]) => (flipped ? i === b && j === a : i === a && j === b));
  const place = DATA.places[variable][region];
  if (pair < 0 || place < 0) return null;
  const [rmseA, rmseB] = [a, b].map((f) => SCORES.rmse.row(f, place));
  const [low, high] = ["ratio_lower", "ratio_upper"].map((key) => PAIRS[key].row(pair, place));
  const [significant, geer] = ["significant", "p_geer"].map((key) => PAIRS[key] && PAIRS[key].row(pair, place));
  return DATA.hours.map((_, lead) => ({
    ratio: rmseA[lead] / rmseB[lead],
    lower: flipped ? 1 / high[lead] : low[lead],
    upper: flipped ? 1 / low[lead] : high[lead],
    significant: significant ? significant[lead] === 1 : null,
    geer: geer ? geer[lead] : NaN,
  }));
}

function crossover(a, b, variable, region) {
  const place = [a, b, DATA.places[variable][region]];
  const read = (key) => CROSSOVERS[key].at(...place) / 24;
  const outcome = DATA.crossovers.outcomes[CROSSOVERS.outcome.at(...place)];
  return { outcome, days: read("hours"), lower: read("lower"), upper: read("upper"), start: read("start") };
}

// What every picture looks at, and who wants to know when it changes.
const state = {
  ...DATA.start,
  variable: 0,
  region: 0,
  metric: 0,
  lead: nearestLead(5),
  hidden: new Set(DATA.hidden),
};
const listeners = [];

function watch(keys, draw) {
  listeners.push({ keys: new Set(keys), draw });
}

function update(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  Object.assign(state, changes);
  for (const { keys, draw } of listeners) {
    if (changed.some((key) => keys.has(key))) draw();
  }
}

function redrawAll() {
  for (const { draw } of listeners) draw();
}

function nearestLead(day) {
  let best = 0;
  DAYS.forEach((d, i) => {
    if (Math.abs(d - day) < Math.abs(DAYS[best] - day)) best = i;
  });
  return best;
}
