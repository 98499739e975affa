// The numbers of the page: arrays from base 64, addressed by their axes.

const DATA = JSON.parse(document.getElementById("data").textContent);

// Half precision, which few browsers read themselves.
function halves(codes) {
  return Float32Array.from(codes, (code) => {
    const [sign, exponent, fraction] = [code & 0x8000 ? -1 : 1, (code >> 10) & 31, code & 1023];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
  });
}

function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
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
  ["ratio_lower", "ratio_upper", "significant"].map((key) => [key, unpack(DATA.pairs[key])]),
);
const DAYS = DATA.hours.map((h) => h / 24);
const LAST_DAY = DAYS[DAYS.length - 1];

// RMSE of one forecaster over another's less one, with interval and significance, at every lead of a variable.
function comparison(a, b, variable, region) {
  const flipped = a > b;
  const pair = DATA.pairs.index.findIndex(([i, j]) => (flipped ? i === b && j === a : i === a && j === b));
  if (pair < 0) return null;
  const [rmseA, rmseB] = [a, b].map((f) => SCORES.rmse.row(f, variable, region));
  const [low, high] = ["ratio_lower", "ratio_upper"].map((key) => PAIRS[key].row(pair, variable, region));
  const significant = PAIRS.significant.row(pair, variable, region);
  return DATA.hours.map((_, lead) => ({
    ratio: rmseA[lead] / rmseB[lead],
    lower: flipped ? 1 / high[lead] : low[lead],
    upper: flipped ? 1 / low[lead] : high[lead],
    significant: significant[lead] === 1,
  }));
}

function crossover(a, b, variable, region) {
  const place = [a, b, variable, region];
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
  hidden: new Set(),
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
