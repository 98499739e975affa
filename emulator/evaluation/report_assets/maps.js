// One forecast beside the truth as it unfolds, or the mean errors; what each got wrong below.

const FRAME_MS = 350;
const STEPS = 254; // of the quantised fields, see report_fields.py

function setUpMaps() {
  const { fields } = DATA;
  const [rows, columns] = fields.shape;
  const palettes = { field: unpack(fields.colours.field), error: unpack(fields.colours.error) };
  const decoded = (group, keys) =>
    group.variables.map((v) => ({ ...v, ...Object.fromEntries(keys.map((key) => [key, unpack(v[key])])) }));
  const views = {
    example: { ...fields.example, variables: decoded(fields.example, ["truth", "error", "largest", "rmse"]) },
    mean: { ...fields.mean, variables: decoded(fields.mean, ["error", "largest"]) },
  };
  const still = document.createElement("canvas");
  [still.width, still.height] = [columns, rows];
  let view = "example";
  let lead = views.example.hours.findIndex((h) => h >= 72);
  if (lead < 0) lead = views.example.hours.length - 1;
  let timer = null;
  let slider = null;
  let panels = [];
  let readout = null;

  const controls = byId("maps-controls");
  const kinds = [{ text: "One forecast" }, { text: "Mean error" }];
  const kind = select("Show", kinds, 0, (i) => {
    stop();
    view = i === 0 ? "example" : "mean";
    const { hours } = views[view];
    const before = hours.findIndex((h) => h >= 120);
    lead = before < 0 ? hours.length - 1 : before;
    setUpLeads();
    show();
  });
  kind.list.id = "maps-view";
  const play = make("button", { type: "button", class: "play", onclick: () => (timer ? stop() : start()) }, "▶ Play");

  function setUpLeads() {
    slider = leadSlider("Lead time", views[view].hours, lead, (i) => {
      stop();
      lead = i;
      paint();
    });
    controls.replaceChildren(kind.field, slider.field, play);
  }

  function start() {
    play.textContent = "❚❚ Pause";
    timer = setInterval(() => {
      lead = (lead + 1) % views[view].hours.length;
      slider.show(lead);
      paint();
    }, view === "example" ? FRAME_MS : 3 * FRAME_MS);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play";
  }

  // Lays out the panels; `paint` fills them.
  function show() {
    const v = fields.variables.indexOf(state.variable);
    const host = byId("maps");
    const pair = [state.forecaster, state.reference].filter((f) => fields.forecasters.includes(f));
    panels = [];
    host.className = view === "example" ? "maps" : "maps errors-only";
    if (v < 0 || !pair.length) {
      const what = v < 0 ? DATA.variables[state.variable].label : "these forecasters";
      host.replaceChildren(make("p", { class: "note" }, `No maps of ${what} in this report; choose a headline variable.`));
      return;
    }
    const label = (f) => DATA.forecasters[f].label;
    if (view === "example") {
      panels.push({ title: "Truth", kind: "truth", className: "whole" });
      for (const f of pair) panels.push({ title: label(f), kind: "forecast", f });
    }
    for (const f of pair) panels.push({ title: view === "example" ? `${label(f)} − truth` : label(f), kind: "error", f });
    const figures = panels.map((panel) => {
      panel.canvas = make("canvas", { role: "img" });
      panel.note = make("span");
      panel.canvas.addEventListener("pointermove", point);
      panel.canvas.addEventListener("pointerdown", point);
      return make("figure", { class: panel.className }, make("figcaption", {}, make("span", {}, panel.title), panel.note), panel.canvas);
    });
    // The scales stand below the truth, where there is no error to show.
    figures.splice(figures.length - pair.length, 0, scales(v));
    host.replaceChildren(...figures);
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    for (const { canvas } of panels) {
      canvas.width = Math.round(canvas.clientWidth * ratio);
      canvas.height = Math.round((canvas.width * rows) / columns);
    }
    paint();
  }

  function caption(hours) {
    const name = DATA.variables[state.variable].label;
    const absent = [state.forecaster, state.reference].filter((f) => !fields.forecasters.includes(f));
    const without = absent.map((f) => {
      const why = fields.without[f];
      return ` There are no maps of ${DATA.forecasters[f].label} in this report${why && `: ${why}`}.`;
    }).join("");
    return words(name, hours) + without;
  }

  function words(name, hours) {
    return view === "example"
      ? `${name}, ${leadText(hours).toLowerCase()} of the forecast from ${fields.example.init}: of ${DATA.forecasters[DATA.start.forecaster].label}’s forecasts the one of median error, not a picked one.`
      : `${name}: mean error over ${fields.mean.inits} initial times at ${leadText(hours).toLowerCase()}. What remains in the mean is a bias or chance.`;
  }

  // Quantised planes of a panel: the forecast is the truth plus its error. They reach as far as the values do, colours less.
  function value(panel, i) {
    const { least, most } = panel.data;
    const scaled = (step, from, to) => (step > STEPS ? NaN : (step / STEPS) * (to - from) + from);
    const error = panel.error ? scaled(panel.error[i], -panel.largest, panel.largest) : 0;
    const truth = panel.truth ? scaled(panel.truth[i], least, most) : 0;
    return panel.kind === "error" ? error : panel.kind === "truth" ? truth : truth + error;
  }

  function paint() {
    const v = fields.variables.indexOf(state.variable);
    if (!panels.length || v < 0) return;
    const data = views[view].variables[v];
    const unit = DATA.variables[state.variable].unit;
    for (const panel of panels) {
      const place = fields.forecasters.indexOf(panel.f);
      panel.data = data;
      panel.error = place < 0 ? null : data.error.row(place, lead);
      panel.largest = place < 0 ? 0 : data.largest.at(place);
      panel.truth = data.truth ? data.truth.row(lead) : null;
      colour(panel);
      if (panel.kind === "error") {
        panel.note.textContent = view === "example" ? `RMSE ${withUnit(number(data.rmse.at(place, lead)), unit)}` : "";
      }
      panel.canvas.setAttribute("aria-label", `Map: ${panel.title}, ${leadText(views[view].hours[lead])}`);
    }
    byId("maps-caption").textContent = caption(views[view].hours[lead]);
  }

  function colour(panel) {
    const { low, high, reach } = panel.data;
    const [from, to, palette] = panel.kind === "error" ? [-reach, reach, palettes.error] : [low, high, palettes.field];
    const context = still.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i += 1) {
      const here = value(panel, i);
      if (Number.isNaN(here)) continue; // a hole shows the page
      const part = Math.round(((here - from) / (to - from)) * STEPS);
      image.data.set(palette.row(Math.min(STEPS, Math.max(0, part))), 4 * i);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    const { canvas } = panel;
    const brush = canvas.getContext("2d");
    brush.clearRect(0, 0, canvas.width, canvas.height);
    brush.imageSmoothingEnabled = true;
    brush.imageSmoothingQuality = "high";
    brush.drawImage(still, 0, 0, canvas.width, canvas.height);
    brush.strokeStyle = "rgba(0, 0, 0, 0.75)";
    brush.lineWidth = Math.max(1, canvas.width / 500);
    for (const line of fields.coast) {
      brush.beginPath();
      for (let i = 0; i < line.length; i += 2) brush.lineTo(line[i] * canvas.width, line[i + 1] * canvas.height);
      brush.stroke();
    }
  }

  function point(event) {
    const box = event.target.getBoundingClientRect();
    const column = Math.min(columns - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * columns)));
    const row = Math.min(rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * rows)));
    const [lat, east] = [fields.latitude[row], fields.longitude[column] % 360];
    const lon = east > 180 ? 360 - east : east;
    const where = `${Math.abs(lat).toFixed(0)}° ${lat < 0 ? "S" : "N"}, ${lon.toFixed(0)}° ${east > 180 ? "W" : "E"}`;
    const unit = DATA.variables[state.variable].unit;
    const values = panels.map((panel) => {
      const there = value(panel, row * columns + column);
      return `${panel.title} ${Number.isNaN(there) ? "no value" : number(there)}`;
    });
    readout.textContent = `${where}: ${values.join(", ")}${unit ? ` (${unit})` : ""}`;
  }

  function scales(v) {
    const { low, high, reach } = views[view].variables[v];
    const unit = DATA.variables[state.variable].unit;
    const bar = (palette, from, to, name) => {
      const canvas = make("canvas", { width: 255, height: 1, "aria-hidden": "true" });
      const context = canvas.getContext("2d");
      const image = context.createImageData(255, 1);
      for (let i = 0; i < 255; i += 1) image.data.set([...palette.row(i), 255], 4 * i);
      context.putImageData(image, 0, 0);
      return make("div", {}, `${name} ${number(from)}`, canvas, withUnit(number(to), unit));
    };
    const bars = [bar(palettes.error, -reach, reach, view === "example" ? "Error" : "Mean error")];
    if (view === "example") bars.unshift(bar(palettes.field, low, high, "Field"));
    readout = make("p", {}, "Point at a map to read its values.");
    return make("div", { class: "scales" }, ...bars, readout);
  }

  setUpLeads();
  watch(["forecaster", "reference", "variable"], show);
}
