// An empty chart with its axes, and curves on it.

const TEXT_WIDTH = 6.6; // of a character at the size of axis labels, in pixels

const tickText = (t) => String(t).replace("-", "−");

function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) out.push(i * step);
  return out.map((t) => parseFloat(t.toPrecision(12)));
}

// A power of ten, or one, two or five of them, as people write it.
function powerText(t) {
  const exponent = Math.floor(Math.log10(t) + 1e-9);
  const digit = Math.round(t / 10 ** exponent);
  if (digit > 1) return Math.abs(exponent) <= 3 ? String(parseFloat(t.toPrecision(1))) : `${digit}×${powerText(10 ** exponent)}`;
  if (Math.abs(exponent) <= 3) return exponent >= 0 ? String(t) : t.toFixed(-exponent);
  return `10${[...String(exponent)].map((c) => ({ "-": "⁻" })[c] || "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]).join("")}`;
}

// Powers of ten; where there are fewer than two, one, two and five of each.
function logTicks(low, high) {
  const out = [];
  for (let e = Math.floor(Math.log10(low)); 10 ** e <= high * 1.000001; e += 1) out.push(10 ** e);
  const inside = (all) => all.filter((t) => t >= low * 0.999999 && t <= high * 1.000001);
  return inside(out).length > 1 ? inside(out) : inside(out.flatMap((t) => [t, 2 * t, 5 * t]));
}

function dayTicks(width) {
  const most = Math.max(2, Math.floor(width / 44));
  const steps = [0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500].filter((s) => s >= 1 || LAST_DAY <= 3);
  const step = steps.find((s) => LAST_DAY / s <= most) || LAST_DAY;
  const out = [];
  for (let t = 0; t <= LAST_DAY + 1e-9; t += step) out.push(t);
  return out;
}

// Draws axes into a host of its width. `x` and `y` are {range, ticks, label, log, text}; returns the scales and where to draw.
function frame(host, { x, y, height, label, focusable = false, tight = false }) {
  const width = Math.max(120, host.clientWidth);
  const yText = y.text || tickText;
  const widest = Math.max(...y.ticks.map((t) => yText(t).length));
  const margin = { left: widest * TEXT_WIDTH + 10, right: tight ? 6 : 14, top: y.label ? 24 : 8, bottom: x.label ? 40 : 20 };
  const inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  const scale = ({ range: [low, high], log }, from, to) => {
    const f = log ? Math.log10 : (v) => v;
    return (v) => from + ((f(v) - f(low)) / (f(high) - f(low))) * (to - from);
  };
  const px = scale(x, margin.left, margin.left + inner.width);
  const py = scale(y, margin.top + inner.height, margin.top);
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  if (focusable) svg.setAttribute("tabindex", 0);
  for (const t of y.ticks) {
    svg.append(
      draw("line", { class: "gridline", x1: margin.left, x2: margin.left + inner.width, y1: py(t), y2: py(t) }),
      draw("text", { x: margin.left - 6, y: py(t), dy: ".32em", "text-anchor": "end" }, yText(t)),
    );
  }
  const xText = x.text || tickText;
  const [bottom, right] = [margin.top + inner.height, margin.left + inner.width];
  svg.append(draw("line", { class: "axis", x1: margin.left, x2: right, y1: bottom, y2: bottom }));
  for (const t of x.ticks) {
    svg.append(
      draw("line", { class: "axis", x1: px(t), x2: px(t), y1: bottom, y2: bottom + 4 }),
      draw("text", { x: px(t), y: bottom + 16, "text-anchor": "middle" }, xText(t)),
    );
  }
  if (x.label) svg.append(draw("text", { x: right, y: height - 4, "text-anchor": "end" }, x.label));
  if (y.label) svg.append(draw("text", { x: 0, y: 11, class: tight ? "title" : null }, y.label));
  const plot = draw("g");
  svg.append(plot);
  host.replaceChildren(svg);
  return { svg, plot, px, py, left: margin.left, right, top: margin.top, bottom, width };
}

// A path through finite points; it breaks where a value is missing.
function pathOf(xs, ys, px, py) {
  let text = "";
  let pen = false;
  xs.forEach((x, i) => {
    const fine = Number.isFinite(ys[i]);
    if (fine) text += `${pen ? "L" : "M"}${px(x).toFixed(1)} ${py(ys[i]).toFixed(1)}`;
    pen = fine;
  });
  return text;
}

// What lies between two lines, in pieces; it breaks as the lines do.
function bandOf(xs, low, high, px, py) {
  const known = (i) => Number.isFinite(low[i]) && Number.isFinite(high[i]);
  const line = (indices, ys) => indices.map((i) => `${px(xs[i]).toFixed(1)} ${py(ys[i]).toFixed(1)}`).join("L");
  let text = "";
  let piece = [];
  for (let i = 0; i <= xs.length; i += 1) {
    if (known(i)) piece.push(i);
    else {
      if (piece.length > 1) text += `M${line(piece, high)}L${line([...piece].reverse(), low)}Z`;
      piece = [];
    }
  }
  return text;
}

// Keeps what is drawn inside the axes, for intervals may run far out of them.
let clips = 0;
function clip({ svg, plot, left, right, top, bottom }) {
  const id = `clip-${(clips += 1)}`;
  const box = draw("rect", { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) });
  svg.prepend(draw("defs", {}, draw("clipPath", { id }, box)));
  const inside = draw("g", { "clip-path": `url(#${id})` });
  plot.append(inside);
  return inside;
}

// Moves a lead cursor by pointer and arrow keys.
function leadCursor(chart, onLead) {
  const at = (event) => {
    const box = chart.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.width;
    onLead(nearestLead(((x - chart.left) / (chart.right - chart.left)) * LAST_DAY));
  };
  chart.svg.addEventListener("pointermove", at);
  chart.svg.addEventListener("pointerdown", at);
}

function stepLead(event) {
  const last = DAYS.length - 1;
  const to = { ArrowLeft: state.lead - 1, ArrowRight: state.lead + 1, Home: 0, End: last }[event.key];
  if (to === undefined) return false;
  event.preventDefault();
  update({ lead: Math.min(last, Math.max(0, to)) });
  return true;
}
