// Variable by lead: who has the lower RMSE, by how much, and whether that is significant over the whole card.

const FULL_COLOUR = Math.log(1.6); // a difference of 60 % and more has the full colour

function setUpScorecard() {
  const host = byId("scorecard");
  const readout = byId("scorecard-readout");
  let outline = null;
  let place = null;
  let rows = []; // the variables that there are in the region

  function percent(ratio) {
    if (!Number.isFinite(ratio)) return "…";
    const value = 100 * (ratio - 1);
    const text = Math.abs(value) >= 10 ? value.toFixed(0) : value.toFixed(1);
    return (value > 0 ? "+" : "") + text.replace("-", "−");
  }

  const word = (ratio) => (ratio < 1 ? "better" : ratio > 1 ? "worse" : "equal");

  function show() {
    const [a, b] = [DATA.forecasters[state.forecaster], DATA.forecasters[state.reference]];
    const keyboardHere = host.contains(document.activeElement);
    const width = Math.max(240, host.clientWidth);
    const label = width < 600 ? 78 : 190;
    const [rowHeight, top] = [width < 600 ? 20 : 22, 22];
    const step = (width - label) / DAYS.length;
    rows = [...DATA.variables.keys()].filter((v) => DATA.places[v][state.region] >= 0);
    const ys = [];
    rows.reduce((y, v, i) => {
      const gap = i > 0 && !DATA.variables[v].headline && DATA.variables[rows[i - 1]].headline ? 8 : 0;
      ys.push(y + gap);
      return y + gap + rowHeight;
    }, top);
    const height = ys[ys.length - 1] + rowHeight + 2;
    const svg = draw("svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img",
      "aria-label": `Scorecard of ${a.label} against ${b.label}. Arrow keys move over variables and leads.`,
    });
    const marks = dayTicks(width - label);
    for (const t of marks) {
      const i = DAYS.findIndex((d) => Math.abs(d - t) < 1e-6);
      if (i >= 0) svg.append(draw("text", { x: label + (i + 0.5) * step, y: 13, "text-anchor": "middle" }, `${t}`));
    }
    svg.append(draw("text", { x: label - 8, y: 13, "text-anchor": "end" }, "Day"));
    rows.forEach((v, row) => {
      const [variable, y] = [DATA.variables[v], ys[row]];
      const short = width < 600 && variable.label.length > 11 ? `${variable.label.slice(0, 10)}…` : variable.label;
      const title = short === variable.label ? [] : [draw("title", {}, variable.label)];
      svg.append(draw("text", { x: label - 8, y: y + rowHeight / 2, dy: ".32em", "text-anchor": "end", class: "strong" }, short, ...title));
      comparison(state.forecaster, state.reference, v, state.region).forEach(({ ratio, significant }, lead) => {
        const x = label + lead * step;
        const known = ratio >= 0; // without any error zero, over such infinite
        const strength = known ? Math.min(1, Math.abs(Math.log(ratio)) / FULL_COLOUR) : 0;
        svg.append(
          draw("rect", {
            x: x + 0.5, y: y + 0.5, width: Math.max(1, step - 1), height: rowHeight - 1, rx: Math.min(3, step / 4),
            fill: !known ? "none" : ratio < 1 ? "var(--better)" : "var(--worse)", stroke: "var(--grid)", "stroke-width": 0.5,
            "fill-opacity": strength.toFixed(3),
          }),
        );
        if (significant) {
          svg.append(
            draw("circle", { cx: x + step / 2, cy: y + rowHeight / 2, r: Math.min(2.8, step * 0.28), fill: "var(--ink)", stroke: "var(--card)", "stroke-width": Math.min(0.8, step * 0.06) }),
          );
        }
      });
    });
    outline = draw("rect", { fill: "none", stroke: "var(--ink)", "stroke-width": 2, rx: 3, width: Math.max(4, step + 1), height: rowHeight + 1 });
    place = () => {
      const row = rows.indexOf(state.variable);
      outline.toggleAttribute("hidden", row < 0);
      outline.setAttribute("x", label + state.lead * step - 0.5);
      outline.setAttribute("y", (row < 0 ? top : ys[row]) - 0.5);
      say();
    };
    svg.append(outline);
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const row = ys.findIndex((start) => y >= start && y < start + rowHeight);
      const lead = Math.floor((x - label) / step);
      return row < 0 || lead < 0 || lead >= DAYS.length ? null : { variable: rows[row], lead };
    };
    svg.addEventListener("pointermove", (event) => {
      const cell = at(event);
      if (cell) say(cell);
    });
    svg.addEventListener("pointerleave", () => say());
    svg.addEventListener("click", (event) => update(at(event) || {}));
    svg.addEventListener("keydown", (event) => {
      if (stepLead(event)) return;
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      update({ variable: rows[Math.min(rows.length - 1, Math.max(0, rows.indexOf(state.variable) + by))] });
    });
    host.replaceChildren(svg);
    if (keyboardHere) svg.focus();
    place();
    const dots = PAIRS.significant
      ? `A dot marks what is significant with false discoveries held to ${parseFloat((100 * (1 - DATA.confidence)).toFixed(2))} % over all ` +
        "variables, leads and regions that were scored for the two."
      : "These scores do not say what is significant.";
    byId("scorecard-caption").textContent =
      `RMSE of ${a.label} against ${b.label}, ${DATA.regions[state.region].text}. ${dots} Choose a cell to see its curves.`;
    key(a.label);
  }

  function say({ variable, lead } = state) {
    const v = DATA.variables[variable];
    const cells = comparison(state.forecaster, state.reference, variable, state.region);
    if (!cells) return readout.replaceChildren();
    const { ratio, lower, upper, significant, geer } = cells[lead];
    const verdict = { true: "significant", false: "among so many cells not significant" }[significant];
    const second = Number.isFinite(geer) ? `p ${geer < 0.001 ? "< 0.001" : `= ${number(geer)}`} by an inflated t-test` : null;
    const value = (f) => withUnit(number(scoreRow("rmse", f, variable, state.region)[lead]), v.unit);
    const [a, b] = [state.forecaster, state.reference];
    readout.replaceChildren(
      make("strong", {}, `${v.label}, ${leadText(DATA.hours[lead])}: `),
      `${DATA.forecasters[a].label} ${value(a)}, ${DATA.forecasters[b].label} ${value(b)}: ` +
        (ratio >= 0 ? `${percent(ratio)} % [${percent(lower)}, ${percent(upper)}], ${word(ratio)}` : "nothing to compare") +
        [verdict, second].filter(Boolean).map((part) => `, ${part}`).join(""),
    );
  }

  function key(name) {
    const swatch = (colour, opacity) =>
      draw("svg", { width: 14, height: 14, "aria-hidden": "true" }, draw("rect", { width: 14, height: 14, rx: 3, fill: colour, "fill-opacity": opacity }));
    const dot = draw("svg", { width: 14, height: 14, "aria-hidden": "true" }, draw("circle", { cx: 7, cy: 7, r: 2.6, fill: "var(--ink)" }));
    byId("scorecard-key").replaceChildren(
      make("span", {}, swatch("var(--better)", 1), swatch("var(--better)", 0.4), `${name} better (lower RMSE)`),
      make("span", {}, swatch("var(--worse)", 0.4), swatch("var(--worse)", 1), `${name} worse`),
      make("span", {}, dot, "significant"),
    );
  }

  watch(["forecaster", "reference", "region"], show);
  watch(["variable", "lead"], () => place());
}
