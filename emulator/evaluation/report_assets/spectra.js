// Power by zonal wavenumber, truth and forecasts: where a forecast's line falls below the truth's, it is blurred.

function setUpSpectra() {
  const { spectra } = DATA;
  const [truth, forecast] = [unpack(spectra.truth), unpack(spectra.forecast)];
  const host = byId("spectra");
  let lead = spectra.hours.findIndex((h) => h >= 120);
  if (lead < 0) lead = spectra.hours.length - 1;
  const field = select("Lead time", spectra.hours.map((h) => ({ text: leadText(h) })), lead, (i) => {
    lead = i;
    show();
  });
  byId("spectra-controls").append(field.field);

  function show() {
    const v = state.variable; // headline variables come first
    const name = DATA.variables[v].label;
    if (!DATA.variables[v].headline) {
      host.replaceChildren(make("p", { class: "note" }, `No spectra of ${name} in this report; choose a headline variable.`));
      return;
    }
    const lines = [{ label: "Truth", colour: "var(--ink)", dash: "", width: 3.2, opacity: 0.45, values: truth.row(v, lead) }];
    for (const f of [state.forecaster, state.reference]) {
      const forecaster = DATA.forecasters[f];
      lines.push({ label: forecaster.label, colour: colourOf(forecaster), dash: forecaster.dash, width: 2.2, opacity: 1, values: forecast.row(f, v, lead) });
    }
    const count = lines[0].values.length;
    const waves = Array.from({ length: count }, (_, k) => k + 1);
    const every = lines.flatMap(({ values }) => Array.from(values)).filter((p) => p > 0);
    const truths = Array.from(lines[0].values).filter((p) => p > 0);
    const range = [Math.max(Math.min(...every), Math.min(...truths) / 1e3) / 1.5, Math.max(...every) * 1.5];
    const unit = DATA.variables[state.variable].unit;
    const squared = /^[A-Za-z]+$/.test(unit) ? `${unit}²` : `(${unit})²`;
    const chart = frame(host, {
      x: { range: [1, count], log: true, ticks: [1, 2, 5, 10, 20, 50, 100, 200, 500].filter((k) => k <= count), label: "Zonal wavenumber", text: String },
      y: { range, log: true, ticks: logTicks(...range), label: unit ? `Power, ${squared}` : "Power", text: powerText },
      height: Math.round(Math.min(360, Math.max(250, host.clientWidth * 0.42))),
      label: `Power of ${name} by zonal wavenumber at ${leadText(spectra.hours[lead])}`,
    });
    const inside = clip(chart);
    const resolved = Math.floor((2 * count - 1) / 3);
    if (resolved < count) {
      inside.append(draw("rect", { x: chart.px(resolved), y: chart.top, width: chart.right - chart.px(resolved), height: chart.bottom - chart.top, fill: "var(--grid)" }));
    }
    lines.forEach(({ label, colour, dash, width, opacity, values }, i) => {
      inside.append(
        draw("path", { d: pathOf(waves, Array.from(values, (p) => (p > 0 ? p : NaN)), chart.px, chart.py), fill: "none", stroke: colour, "stroke-width": width, "stroke-opacity": opacity, "stroke-dasharray": dash || null }),
      );
      const y = chart.bottom - 14 - 18 * (lines.length - 1 - i);
      chart.plot.append(
        draw("line", { x1: chart.left + 12, x2: chart.left + 40, y1: y, y2: y, stroke: colour, "stroke-width": width, "stroke-opacity": opacity, "stroke-dasharray": dash || null }),
        draw("text", { x: chart.left + 48, y, dy: ".32em", class: "strong" }, label),
      );
    });
    byId("spectra-caption").textContent =
      `${name}, mean over ${spectra.inits} initial times. A line below the truth's has lost that scale. ` +
      (resolved < count ? `Shaded: beyond wavenumber ${resolved}, which a spectral model of this grid does not carry.` : "");
  }

  watch(["forecaster", "reference", "variable"], show);
}
