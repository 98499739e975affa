// Error against what a forecast costs; the front joins what nobody beats in both.

// From a point to where its name may stand, the nearest first; beyond NEAR pixels a line leads to it.
const NEAR = 9;
const SIDES = [[1, 0], [-1, 0], [0, -1], [0, 1], [0.7, -0.7], [0.7, 0.7], [-0.7, -0.7], [-0.7, 0.7]];
const LABEL_PLACES = [NEAR, 24, 38, 54, 72, 92, 114].flatMap((by) => SIDES.map(([x, y]) => [by * x, by * y]));

function setUpCost() {
  const host = byId("cost");
  const slider = leadSlider("Lead time", DATA.hours, state.lead, (lead) => update({ lead }));
  byId("cost-controls").append(slider.field);

  function show() {
    slider.show(state.lead);
    const variable = DATA.variables[state.variable];
    const all = DATA.forecasters
      .map((forecaster, f) => ({ forecaster, seconds: DATA.seconds_per_day[f], error: (scoreRow("rmse", f, state.variable, state.region) || [])[state.lead] }));
    const points = all.filter(({ seconds, error }) => seconds > 0 && Number.isFinite(error));
    const unknown = all.filter((p) => !points.includes(p)).map((p) => p.forecaster.label);
    byId("cost-caption").textContent =
      `RMSE of ${variable.label}, ${DATA.regions[state.region].text}, against the seconds that a simulated day takes on the ` +
      "hardware named below. The line is the front: nobody is both faster and better." +
      (unknown.length ? ` Left out, for their cost or error is unknown: ${unknown.join(", ")}.` : "");
    if (!points.length) {
      host.replaceChildren(make("p", { class: "note" }, "No forecaster's cost is known."));
      return;
    }
    const seconds = points.map((p) => p.seconds);
    const range = [Math.min(...seconds) / 2.5, Math.max(...seconds) * 2.5];
    const top = Math.max(...points.map((p) => p.error)) * 1.15 || 1;
    const chart = frame(host, {
      x: { range, log: true, ticks: logTicks(...range), label: "Seconds a simulated day (faster to the left)", text: powerText },
      y: { range: [0, top], ticks: ticks(0, top, 5), label: withUnit("RMSE", variable.unit && `(${variable.unit})`) },
      height: Math.round(Math.min(340, Math.max(240, host.clientWidth * 0.4))),
      label: `RMSE of ${variable.label} against cost: ` + points.map((p) => `${p.forecaster.label} ${number(p.error)} at ${number(p.seconds)} s`).join(", "),
    });
    const best = [...points].sort((p, q) => p.seconds - q.seconds || p.error - q.error);
    const front = best.filter((p, i) => best.slice(0, i).every((q) => q.error > p.error));
    const corners = front.map((p) => [chart.px(p.seconds), chart.py(p.error)]);
    const line = [[corners[0][0], chart.top], ...corners.flatMap(([x, y], i) => [[x, y], [(corners[i + 1] || [chart.right])[0], y]])];
    chart.plot.append(draw("path", { d: `M${line.map((at) => at.join(" ")).join("L")}`, fill: "none", stroke: "var(--soft)", "stroke-width": 1.5, "stroke-dasharray": "4 4", "data-front": front.map((p) => p.forecaster.name).join(" ") }));
    const crowded = chart.width < 520; // there the front alone is named; the table below has all
    const named = [...points].sort((p, q) => p.error - q.error).filter((p) => !crowded || front.includes(p));
    const leaders = draw("g");
    const labels = draw("g");
    const dots = points.map(({ forecaster, seconds: s, error }) => {
      const [x, y] = [chart.px(s), chart.py(error)];
      const title = draw("title", {}, forecaster.label);
      const dot = draw("circle", { cx: x, cy: y, r: 6, fill: colourOf(forecaster), stroke: "var(--card)", "stroke-width": 1.5 }, title);
      return { dot, x, y };
    });
    chart.plot.append(leaders, ...dots.map(({ dot }) => dot), labels);
    const names = named.map((point) => {
      const { forecaster } = point;
      const label = draw("text", { dy: ".32em", class: "halo" }, forecaster.label);
      label.style.fill = `color-mix(in srgb, ${colourOf(forecaster)} 65%, var(--ink))`; // nearer to ink, for letters are thin
      labels.append(label);
      return { ...dots[points.indexOf(point)], label, colour: colourOf(forecaster), width: label.getComputedTextLength() };
    });
    placesOfNames(chart, names, dots, line).forEach(({ box, from, to, far }, i) => {
      fill(names[i].label, { x: box.left, y: (box.top + box.bottom) / 2 }, []);
      if (far) leaders.append(draw("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], stroke: names[i].colour }));
    });
  }

  watch(["variable", "region", "lead"], show);
}

// Where each name covers no point, no other name and no line that leads to one, nor if it can be the front, as near to
// its point as that goes.
function placesOfNames(chart, names, dots, front) {
  const boxes = dots.map(({ x, y }) => ({ left: x - 7, right: x + 7, top: y - 7, bottom: y + 7, x, y }));
  const taken = [...boxes];
  const lines = [];
  const dashes = front.slice(1).map((to, i) => ({ from: front[i], to }));
  return names.map(({ x, y, width }) => {
    const others = () => taken.filter((other) => other.x !== x || other.y !== y);
    const found = LABEL_PLACES.map(([dx, dy]) => {
      const [left, top] = [x + dx + ((Math.sign(dx) - 1) * width) / 2, y + dy + (Math.sign(dy) - 1) * 7];
      const box = { left, right: left + width, top, bottom: top + 14 };
      const place = { box, from: [x, y], to: [x + dx, y + dy], far: Math.hypot(dx, dy) > NEAR + 1 };
      const outside = box.left < chart.left || box.right > chart.right || box.top < chart.top || box.bottom > chart.bottom;
      const over = taken.filter((other) => overlap(box, other)).length;
      const through = place.far ? others().filter((other) => crosses(place, other)).length : 0;
      const crossed = through + lines.filter((line) => crosses(line, box)).length;
      const dashed = dashes.filter((dash) => crosses(dash, box)).length;
      return { ...place, badness: 1000 * outside + 100 * over + 10 * crossed + dashed };
    });
    const best = found.reduce((a, b) => (b.badness < a.badness ? b : a));
    taken.push(best.box);
    if (best.far) lines.push(best);
    return best;
  });
}

const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

// Whether the straight line of a place passes through a box, by points along it.
function crosses({ from, to }, box) {
  const steps = Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / 2);
  return Array.from({ length: steps + 1 }, (_, i) => i / steps).some((part) => {
    const [x, y] = from.map((start, axis) => start + part * (to[axis] - start));
    return x > box.left && x < box.right && y > box.top && y < box.bottom;
  });
}
