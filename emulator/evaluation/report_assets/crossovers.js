// For every headline variable: from when until when the forecaster is better, as a bar and in words.

const momentText = (days) => (days < 2 ? `${(24 * days).toFixed(0)} hours` : `day ${days.toFixed(1)}`);

// Below two days in hours; an interval says the unit of each end where it is not that of the number, or there is none.
function crossoverWords({ outcome, days, lower, upper, start }) {
  const inHours = outcome === "crossover" && days < 2;
  const text = (d) => (inHours ? (24 * d).toFixed(0) : d.toFixed(1));
  const late = inHours && Number.isFinite(upper) && upper >= 2;
  const bare = outcome === "crossover" && !late;
  const end = (d) => (!Number.isFinite(d) ? "…" : bare ? text(d) : d < 2 ? `${(24 * d).toFixed(0)} h` : `${d.toFixed(1)} d`);
  const interval = Number.isFinite(lower) ? `[${end(lower)}, ${end(upper)}]` : "";
  const since = start > DAYS[0] + 1e-6 ? `from ${momentText(start)} on` : "";
  const main = outcome === "crossover" ? `${text(days)} ${inHours ? "hours" : "days"}` : outcome || "–";
  return { main, interval, since };
}

// What is known of the two; nothing of a score that one of them lacks.
function crossoverSentence(a, b, found) {
  const { main, interval, since } = crossoverWords(found);
  const beats = `${a} beats ${b}${since && ` ${since}`}`;
  const sure = Number.isFinite(found.lower) ? momentText(found.lower) : "";
  const until = sure === momentText(DAYS[DAYS.length - 1]) ? "until shortly before it" : `only up to ${sure}`;
  const doubt = sure && `, beyond doubt ${until}`;
  return {
    crossover: `${beats} up to ${main} ${interval}`,
    "beyond the last lead": `${beats} to the last lead${doubt}`, // nothing was scored beyond
    "never better": `${a} is never better than ${b}`,
    "worse at first": `${a} is worse than ${b} at first, and beyond doubt better at no lead`,
    undecided: `Undecided whether ${a} beats ${b}`,
  }[found.outcome] || "";
}

function setUpCrossovers() {
  const table = byId("crossovers");
  const caption = table.querySelector("caption");

  function strip(found, colour, width) {
    const height = 22;
    const px = (d) => (Math.min(Math.max(d, 0), LAST_DAY) / LAST_DAY) * (width - 10) + 5;
    const middle = height / 2;
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    svg.append(draw("line", { class: "axis", x1: px(0), x2: px(LAST_DAY), y1: middle, y2: middle }));
    const wins = found.outcome === "crossover" || found.outcome === "beyond the last lead";
    if (!wins) {
      if (found.outcome === "undecided") {
        svg.append(draw("text", { x: width / 2, y: middle, dy: ".32em", "text-anchor": "middle", class: "halo" }, "?"));
      }
      return svg;
    }
    const from = found.start > DAYS[0] + 1e-6 ? found.start : 0;
    const until = Math.min(found.days, LAST_DAY);
    svg.append(
      draw("rect", { x: px(from), y: middle - 5, width: Math.max(2, px(until) - px(from)), height: 10, rx: 3, fill: colour }),
    );
    if (Number.isFinite(found.lower)) {
      const high = Math.min(found.upper, LAST_DAY);
      svg.append(
        draw("line", { x1: px(found.lower), x2: px(high), y1: middle, y2: middle, stroke: "var(--ink)", "stroke-width": 1.5 }),
      );
      for (const [x, closed] of [[found.lower, true], [high, Number.isFinite(found.upper)]]) {
        const d = closed ? `M${px(x)} ${middle - 5}v10` : `M${px(x) - 5} ${middle - 4}l5 4l-5 4`;
        svg.append(draw("path", { d, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5 }));
      }
    }
    if (found.outcome === "crossover") {
      const [x, r] = [px(found.days), 5.5];
      const d = `M${x} ${middle - r}L${x + r} ${middle}L${x} ${middle + r}L${x - r} ${middle}Z`;
      svg.append(draw("path", { d, fill: "var(--card)", stroke: colour, "stroke-width": 2 }));
    }
    return svg;
  }

  function axis(width) {
    const px = (d) => (d / LAST_DAY) * (width - 10) + 5;
    const svg = draw("svg", { width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" });
    const marks = dayTicks(width);
    marks.forEach((t, i) => {
      const anchor = i === marks.length - 1 ? "end" : i === 0 ? "start" : "middle";
      const x = anchor === "middle" ? px(t) : anchor === "end" ? width : 0;
      svg.append(draw("text", { x, y: 12, "text-anchor": anchor }, i === 0 ? `day ${t}` : `${t}`));
    });
    return svg;
  }

  function show() {
    const [a, b] = [state.forecaster, state.reference];
    const names = [a, b].map((i) => DATA.forecasters[i].label);
    byId("crossover-caption").textContent =
      `Up until which lead time ${names[0]} is ahead of ${names[1]} in RMSE, ` +
      `${DATA.regions[state.region].text}: a bar from where it is significantly ahead to the crossover (diamond), whose ` +
      `${100 * DATA.confidence} % interval is the thin line. Up to the left end of that it is significantly ahead.`;
    const rows = [];
    DATA.variables.forEach((variable, v) => {
      if (!variable.headline) return;
      const found = crossover(a, b, v, state.region);
      const words = crossoverWords(found);
      rows.push({
        found,
        row: make(
          "tr",
          {},
          make("th", { scope: "row" }, variable.label),
          make("td", { class: "strip" }),
          make("td", { class: "words" }, `${words.main} `, make("span", {}, words.interval), words.since ? make("small", {}, words.since) : null),
        ),
      });
    });
    const foot = make("tr", { class: "axis-row", "aria-hidden": "true" }, make("th"), make("td", { class: "strip" }), make("td"));
    table.replaceChildren(caption, make("tbody", {}, ...rows.map(({ row }) => row), foot));
    const width = Math.max(60, foot.querySelector(".strip").clientWidth);
    const colour = colourOf(DATA.forecasters[a]);
    for (const { row, found } of rows) row.querySelector(".strip").append(strip(found, colour, width));
    foot.querySelector(".strip").append(axis(width));
  }

  watch(["forecaster", "reference", "region"], show);
}
