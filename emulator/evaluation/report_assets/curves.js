// Scores against lead time: one large chart with intervals and the crossover, and the other metrics beside it.

function metricSeries(metric, variable, region) {
  const read = (name, f) => {
    const row = scoreRow(name, f, variable, region);
    return row && Array.from(row);
  };
  return DATA.forecasters.map((forecaster, f) => ({
    forecaster,
    index: f,
    values: read(metric.name, f),
    lower: read(`${metric.name}_lower`, f),
    upper: read(`${metric.name}_upper`, f),
  }));
}

// The range of an axis; of shares of a gap what is far below none is cut off, for somebody is always far behind.
function valueRange(series, metric) {
  let finite = series.flatMap(({ values }) => values || []).filter(Number.isFinite);
  if (!finite.length) return null;
  if (metric.name === "gap_closed") finite = finite.map((v) => Math.max(v, -60));
  const [low, high] = [Math.min(...finite, metric.ideal), Math.max(...finite, metric.ideal)];
  const room = (high - low || 1) * 0.08;
  return [low < 0 ? low - room : 0, metric.name === "acc" ? 1 : high + room];
}

const endText = (value) => (Number.isFinite(value) ? number(value) : "…");
const unitOf = (metric) => (metric.in_variable_units ? DATA.variables[state.variable].unit : metric.unit);
const tickLabel = (metric) => withUnit(metric.label, unitOf(metric) && `(${unitOf(metric)})`);

function drawCurves(chart, series, emphasised) {
  const inside = clip(chart);
  for (const { forecaster, index, lower, upper } of series) {
    if (!emphasised.includes(index) || !lower) continue;
    inside.append(draw("path", { d: bandOf(DAYS, lower, upper, chart.px, chart.py), fill: colourOf(forecaster), "fill-opacity": 0.16 }));
  }
  for (const { forecaster, index, values } of series) {
    inside.append(
      draw("path", {
        d: pathOf(DAYS, values, chart.px, chart.py), fill: "none", stroke: colourOf(forecaster), "stroke-dasharray": forecaster.dash || null,
        "stroke-width": emphasised.includes(index) ? 2.4 : 1.6, "stroke-linejoin": "round", "data-forecaster": forecaster.name,
      }),
    );
  }
}

function setUpCurves() {
  const host = byId("curve");
  let chart = null;
  let series = [];
  let cursor = null;

  const metricField = select("Metric", DATA.metrics.map(({ label }) => ({ text: label })), state.metric, (i) => update({ metric: i }));
  metricField.list.id = "metric";
  host.before(make("div", { class: "row" }, metricField.field));

  byId("curve-reading").closest(".curves").classList.toggle("many", DATA.forecasters.length > 7);

  // With a dozen forecasters a chart is unreadable, so a page begins with the usual ones.
  const choices = [
    ["Usual lines", () => DATA.hidden.filter((f) => f !== state.forecaster && f !== state.reference)],
    ["All", () => []],
    ["Only the two", () => [...DATA.forecasters.keys()].filter((f) => f !== state.forecaster && f !== state.reference)],
  ];
  const buttons = choices.map(([text, hidden]) => make("button", { type: "button", onclick: () => update({ hidden: new Set(hidden()) }) }, text));
  byId("curve-reading").after(make("div", { class: "choices", role: "group", "aria-label": "Which lines are shown" }, ...buttons));

  const shown = (all) => all.filter(({ index }) => !state.hidden.has(index));

  function emptyText(metric) {
    if (DATA.places[state.variable][state.region] < 0) return "Of this variable the page holds the whole grid only: choose it as region.";
    const whole = state.region !== 0 && ["fine_scale_ratio", "extreme_low", "extreme_high"].includes(metric.name);
    return whole ? "This score is of the whole grid: choose it as region." : "There is no such score here.";
  }

  function show() {
    metricField.list.value = state.metric;
    const metric = DATA.metrics[state.metric];
    const variable = DATA.variables[state.variable];
    const keyboardHere = host.contains(document.activeElement);
    byId("curves-caption").textContent = `${variable.label}, ${DATA.regions[state.region].text}. ${metric.label}: ${metric.text}.`;
    series = metricSeries(metric, state.variable, state.region);
    const range = valueRange(shown(series), metric);
    const name = `${metric.label} of ${variable.label} against lead time. Left and right arrow keys move the lead.`;
    cursor = null;
    chart = null;
    if (!range) host.replaceChildren(make("p", { class: "note" }, emptyText(metric)));
    else {
      const wide = host.clientWidth;
      const y = { range, ticks: ticks(range[0], range[1], 5), label: tickLabel(metric) };
      const x = { range: [0, LAST_DAY], ticks: dayTicks(wide), label: "Lead time (days)" };
      chart = frame(host, { x, y, height: Math.round(Math.min(400, Math.max(270, wide * 0.52))), label: name, focusable: true });
      if (metric.ideal !== range[0]) {
        const at = chart.py(metric.ideal);
        chart.plot.append(draw("line", { class: "ideal", x1: chart.left, x2: chart.right, y1: at, y2: at }));
      }
      drawCurves(chart, shown(series), [state.forecaster, state.reference]);
      if (metric.name === "rmse") markCrossover();
      cursor = draw("g");
      chart.svg.append(cursor);
      leadCursor(chart, (lead) => update({ lead }));
      chart.svg.addEventListener("keydown", stepLead);
      if (keyboardHere) chart.svg.focus();
    }
    moveCursor();
    smallCharts();
  }

  function markCrossover() {
    const found = crossover(state.forecaster, state.reference, state.variable, state.region);
    const labels = [state.forecaster, state.reference].map((f) => DATA.forecasters[f].label);
    const text = crossoverSentence(...labels, found);
    const foot = chart.bottom - 9;
    const seen = !state.hidden.has(state.forecaster) && !state.hidden.has(state.reference);
    if (found.outcome === "crossover" && seen) {
      const curve = series[state.reference].values;
      const i = Math.max(1, DAYS.findIndex((d) => d >= found.days));
      const part = (found.days - DAYS[i - 1]) / (DAYS[i] - DAYS[i - 1]);
      const [x, y] = [chart.px(found.days), chart.py(curve[i - 1] + part * (curve[i] - curve[i - 1]))];
      const high = Math.min(found.upper, LAST_DAY);
      chart.plot.append(
        draw("line", { class: "cursor", x1: x, x2: x, y1: y, y2: chart.bottom }),
        draw("path", { d: `M${chart.px(found.lower)} ${foot}H${chart.px(high)}`, stroke: "var(--ink)", "stroke-width": 3, "stroke-opacity": 0.6 }),
        draw("path", { d: `M${x} ${y - 7}L${x + 7} ${y}L${x} ${y + 7}L${x - 7} ${y}Z`, fill: "var(--card)", stroke: "var(--ink)", "stroke-width": 2, "data-crossover": "" }),
      );
    }
    const beside = text.length * TEXT_WIDTH <= chart.width - 90;  // of the label of the axis
    wrapped(text, chart.width - 16).forEach((line, i) => {
      const y = beside ? 11 : chart.top + 12 + 16 * i;
      chart.svg.append(draw("text", { x: chart.right, y, "text-anchor": "end", class: beside ? "strong" : "strong halo" }, line));
    });
  }

  // Lines of whole words that are no wider than this.
  function wrapped(text, width) {
    const lines = [];
    for (const word of text.split(" ")) {
      const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
      if (lines.length && longer.length * TEXT_WIDTH <= width) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    return lines;
  }

  function moveCursor() {
    const unit = unitOf(DATA.metrics[state.metric]);
    byId("curve-lead").textContent = `${leadText(DATA.hours[state.lead])}${unit ? ` · ${unit}` : ""}`;
    if (cursor) {
      const x = chart.px(DAYS[state.lead]);
      cursor.replaceChildren(
        draw("line", { class: "cursor", x1: x, x2: x, y1: chart.top, y2: chart.bottom }),
        ...shown(series)
          .filter(({ values }) => Number.isFinite(values[state.lead]))
          .map(({ forecaster, values }) => draw("circle", { cx: x, cy: chart.py(values[state.lead]), r: 3.5, fill: colourOf(forecaster), stroke: "var(--card)" })),
      );
    }
    read();
  }

  // What lies beyond the leads there are is told by the end of its interval.
  function valueText(value, lower, upper) {
    if (value === Infinity && Number.isFinite(lower)) return `> ${number(lower)}`;
    if (value === -Infinity && Number.isFinite(upper)) return `< ${number(upper)}`;
    return number(value);
  }

  // The legend is the read-out: each forecaster's value at the lead, with a box that hides its curve.
  function read() {
    const rows = series.map(({ forecaster, index, values, lower, upper }) => {
      const line = draw(
        "svg", { width: 30, height: 10, "aria-hidden": "true" },
        draw("line", { x1: 0, x2: 30, y1: 5, y2: 5, stroke: colourOf(forecaster), "stroke-width": 2.5, "stroke-dasharray": forecaster.dash || null }),
      );
      const known = lower && Number.isFinite(values[state.lead]) && (Number.isFinite(lower[state.lead]) || Number.isFinite(upper[state.lead]));
      const interval = known ? `[${endText(lower[state.lead])}, ${endText(upper[state.lead])}]` : null;
      return { index, forecaster, line, value: values ? valueText(values[state.lead], lower && lower[state.lead], upper && upper[state.lead]) : "–", interval };
    });
    const gains = DATA.metrics[state.metric].name === "time_gain_hours";
    const box = byId("curve-reading");
    if (box.childElementCount !== rows.length) {
      box.replaceChildren(
        ...rows.map(({ index, line }) =>
          make(
            "label", {},
            make("input", { type: "checkbox", onchange: () => toggle(index) }),
            line, make("span", { class: "name" }), make("span", { class: "value" }), make("small", {}),
          ),
        ),
      );
    }
    rows.forEach(({ index, value, interval }, i) => {
      const row = box.children[i];
      row.querySelector(".name").textContent = gains && index !== DATA.candidate ? `over ${rows[i].forecaster.label}` : rows[i].forecaster.label;
      row.className = state.hidden.has(index) ? "off" : "";
      row.querySelector("input").checked = !state.hidden.has(index);
      row.querySelector(".value").textContent = value;
      row.querySelector("small").textContent = interval || "";
      row.querySelector("small").hidden = !interval || state.hidden.has(index);
    });
  }

  function toggle(index) {
    const hidden = new Set(state.hidden);
    if (!hidden.delete(index)) hidden.add(index);
    update({ hidden });
  }

  // The other metrics at a glance, as far as there are any for this variable and region.
  function smallCharts() {
    const group = byId("small-charts");
    const focused = [...group.children].indexOf(document.activeElement);
    const charts = DATA.metrics
      .map((metric, m) => ({ metric, m, all: shown(metricSeries(metric, state.variable, state.region)) }))
      .map((chart) => ({ ...chart, range: valueRange(chart.all, chart.metric) }))
      .filter(({ range }) => range);
    group.replaceChildren(
      ...charts.map(({ m }) => make("button", { type: "button", "aria-pressed": String(m === state.metric), onclick: () => update({ metric: m }) })),
    );
    charts.forEach(({ metric, all, range }, i) => {
      const title = tickLabel(metric);
      const holder = make("span", { class: "drawing" });
      group.children[i].append(holder);
      const y = { range, ticks: ticks(range[0], range[1], 3), label: title };
      const small = frame(holder, {
        x: { range: [0, LAST_DAY], ticks: dayTicks(120) }, y, height: 130, tight: true, label: title,
      });
      if (metric.ideal !== range[0]) {
        small.plot.append(draw("line", { class: "ideal", x1: small.left, x2: small.right, y1: small.py(metric.ideal), y2: small.py(metric.ideal) }));
      }
      drawCurves(small, all, []);
    });
    if (focused >= 0 && group.children[focused]) group.children[focused].focus();
  }

  watch(["forecaster", "reference", "variable", "region", "metric", "hidden"], show);
  watch(["lead"], moveCursor);
}
