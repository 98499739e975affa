// A forecaster left to itself for months: its global mean beside the truth's range, its zonal bias, its fine scales.

function setUpLongRun() {
  const run = DATA.long_run;
  const tables = Object.fromEntries(
    ["global_mean", "truth_mean", "truth_lowest", "truth_highest", "zonal_bias", "fine_scale_ratio"].map((key) => [key, unpack(run[key])]),
  );
  const forecaster = DATA.forecasters[DATA.candidate];
  const last = run.days[run.days.length - 1];
  const dayTicksOf = (width) => ticks(0, last, Math.max(2, Math.floor(width / 60)));
  const hosts = Object.fromEntries(["means", "zonal", "fine"].map((name) => [name, byId(`long-run-${name}`)]));

  function show() {
    const v = run.variables.indexOf(state.variable);
    const variable = DATA.variables[state.variable];
    Object.values(hosts).forEach((host) => host.replaceChildren());
    if (v < 0) {
      byId("long-run-caption").textContent = `Of ${variable.label} the long run kept nothing; choose a headline variable.`;
      return;
    }
    byId("long-run-caption").textContent =
      `${variable.label}. Global means: lines from ${run.starts.join(" and ")} UTC; shaded what the truth does at that time of the year. ` +
      `Zonal means: less the truth's, over ${run.window_days} days. Fine scales: amplitude over the truth's.`;
    means(v, variable);
    zonal(v, variable);
    fine(v, variable);
  }

  function means(v, variable) {
    const rows = run.starts.map((_, i) => Object.fromEntries(["global_mean", "truth_mean", "truth_lowest", "truth_highest"].map((key) => [key, Array.from(tables[key].row(v, i))])));
    const every = rows.flatMap((row) => Object.values(row).flat()).filter(Number.isFinite);
    const [low, high] = [Math.min(...every), Math.max(...every)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    const range = [low - room, high + room];
    const chart = frame(hosts.means, {
      x: { range: [0, last], ticks: dayTicksOf(hosts.means.clientWidth), label: "Days" },
      y: { range, ticks: ticks(...range, 4), label: withUnit("Global mean", variable.unit && `(${variable.unit})`) },
      height: 240,
      label: `Global mean of ${variable.label} over ${last} days beside the truth's range`,
    });
    const inside = clip(chart);
    for (const row of rows) {
      inside.append(
        draw("path", { d: bandOf(run.days, row.truth_lowest, row.truth_highest, chart.px, chart.py), fill: "var(--soft)", "fill-opacity": 0.25 }),
        draw("path", { d: pathOf(run.days, row.truth_mean, chart.px, chart.py), fill: "none", class: "ideal" }),
      );
    }
    rows.forEach((row, i) =>
      inside.append(draw("path", { d: pathOf(run.days, row.global_mean, chart.px, chart.py), fill: "none", stroke: colourOf(forecaster), "stroke-width": 1.8, "stroke-dasharray": i ? "5 3" : null })),
    );
  }

  // Latitude against time, a column a window: orange too high, blue too low.
  function zonal(v, variable) {
    const biases = run.windows.map((_, w) => Array.from(tables.zonal_bias.row(v, w)));
    const sizes = biases.flat().filter(Number.isFinite).map(Math.abs);
    const reach = Math.max(...sizes, 0);
    const chart = frame(hosts.zonal, {
      x: { range: [0, run.windows.length * run.window_days], ticks: ticks(0, run.windows.length * run.window_days, 6), label: "Days" },
      y: { range: [-90, 90], ticks: [-60, -30, 0, 30, 60], text: (t) => (t ? `${Math.abs(t)}° ${t < 0 ? "S" : "N"}` : "0°"), label: "Zonal-mean bias" },
      height: 240,
      label: `Zonal-mean bias of ${variable.label} by latitude and time, at most ${number(reach)} ${variable.unit}`,
    });
    const edges = run.latitude.map((lat, i) => (i ? (lat + run.latitude[i - 1]) / 2 : Math.max(-90, lat - (run.latitude[1] - lat) / 2)));
    edges.push(Math.min(90, 2 * run.latitude[run.latitude.length - 1] - edges[edges.length - 1]));
    biases.forEach((column, w) => {
      const [left, right] = [run.windows[w], run.windows[w] + run.window_days].map(chart.px);
      column.forEach((bias, i) => {
        if (!Number.isFinite(bias)) return;
        chart.plot.append(
          draw("rect", {
            x: left, width: right - left, y: chart.py(edges[i + 1]), height: chart.py(edges[i]) - chart.py(edges[i + 1]), "shape-rendering": "crispEdges",
            fill: bias < 0 ? "var(--better)" : "var(--worse)", "fill-opacity": (reach ? Math.abs(bias) / reach : 0).toFixed(3),
          }),
        );
      });
    });
    const text = sizes.length ? `±${number(reach)} ${variable.unit} is full colour` : "The truth covers none of these dates";
    chart.svg.append(draw("text", { x: chart.right, y: 11, "text-anchor": "end" }, text));
  }

  function fine(v, variable) {
    const ratios = Array.from(tables.fine_scale_ratio.row(v));
    const known = ratios.filter(Number.isFinite);
    if (!known.length) return;
    const top = Math.max(1.2, ...known) * 1.1;
    const middles = run.windows.map((w) => w + run.window_days / 2);
    const chart = frame(hosts.fine, {
      x: { range: [0, run.windows.length * run.window_days], ticks: ticks(0, run.windows.length * run.window_days, 6), label: "Days" },
      y: { range: [0, top], ticks: ticks(0, top, 4), label: "Fine-scale amplitude over the truth's" },
      height: 240,
      label: `Fine-scale amplitude of ${variable.label} over the truth's: ${known.map(number).join(", ")}`,
    });
    chart.plot.append(
      draw("line", { class: "ideal", x1: chart.left, x2: chart.right, y1: chart.py(1), y2: chart.py(1) }),
      draw("path", { d: pathOf(middles, ratios, chart.px, chart.py), fill: "none", stroke: colourOf(forecaster), "stroke-width": 1.8 }),
    );
    ratios.forEach((ratio, w) => {
      if (Number.isFinite(ratio)) chart.plot.append(draw("circle", { cx: chart.px(middles[w]), cy: chart.py(ratio), r: 3.5, fill: colourOf(forecaster) }));
    });
  }

  watch(["variable"], show);
}
