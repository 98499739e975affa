// Error against what a forecast costs; the front joins what nobody beats in both.

const LABEL_PLACES = [-12, 20, -26, 34, -40, 48, -54, 62]; // pixels from a point down to the foot of its label

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
    const steps = front.map((p, i) => (i === 0 ? `M${chart.px(p.seconds)} ${chart.top}V${chart.py(p.error)}` : `H${chart.px(p.seconds)}V${chart.py(p.error)}`));
    chart.plot.append(draw("path", { d: `${steps.join("")}H${chart.right}`, fill: "none", stroke: "var(--soft)", "stroke-width": 1.5, "stroke-dasharray": "4 4", "data-front": front.map((p) => p.forecaster.name).join(" ") }));
    // A label stands above its point or below it, as near as it covers no other point or label.
    const taken = points.map((p) => ({ foot: chart.py(p.error) + 5, start: chart.px(p.seconds) - 7, end: chart.px(p.seconds) + 7 }));
    const labels = draw("g");
    const crowded = chart.width < 520; // there the front alone is labelled; the table below has all
    for (const point of [...points].sort((p, q) => p.error - q.error)) {
      const { forecaster, seconds: s, error } = point;
      const [x, y] = [chart.px(s), chart.py(error)];
      chart.plot.append(
        draw("circle", { cx: x, cy: y, r: 6, fill: colourOf(forecaster), stroke: "var(--card)", "stroke-width": 1.5 }, draw("title", {}, forecaster.label)),
      );
      if (crowded && !front.includes(point)) continue;
      const long = forecaster.label.length * TEXT_WIDTH;
      const before = x + 8 + long > chart.right;
      const start = before ? x + 6 - long : x - 4;
      const free = (foot) => !taken.some((t) => Math.abs(t.foot - foot) < 14 && start < t.end && t.start < start + long);
      const foot = LABEL_PLACES.map((by) => y + by).find(free) || y - 12;
      taken.push({ foot, start, end: start + long });
      labels.append(
        draw("text", { x: before ? x + 6 : x - 4, y: foot, class: "strong halo", "text-anchor": before ? "end" : "start" }, forecaster.label),
      );
    }
    chart.plot.append(labels);
  }

  watch(["variable", "region", "lead"], show);
}
