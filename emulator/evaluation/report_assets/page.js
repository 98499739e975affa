// Small pieces of the page: elements, fields, words. Text is only ever set as text.

const SVG = document.getElementById("svg-namespace").namespaceURI;

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

// Black is ink, and all colours are lighter on a dark page.
const colourOf = ({ colour }) => (colour === "#000000" ? "var(--ink)" : `color-mix(in srgb, ${colour} var(--colour), white)`);

function number(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return value.toFixed(0).replace("-", "−");
  if (size > 0 && size < 1e-4) return value.toExponential(2).replaceAll("-", "−");
  const digits = size === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toFixed(digits).replace("-", "−");
}

function leadText(hours) {
  return hours < 24 ? `${parseFloat(hours.toFixed(2))} h` : `Day ${parseFloat((hours / 24).toFixed(2))}`;
}

const withUnit = (text, unit) => (unit ? `${text} ${unit}` : text);

function select(label, options, chosen, onChange) {
  const list = make("select", { onchange: (event) => onChange(Number(event.target.value)) });
  const groups = new Map();
  options.forEach(({ text, group }, i) => {
    const option = make("option", { value: i, selected: i === chosen }, text);
    if (!group) return list.append(option);
    if (!groups.has(group)) {
      groups.set(group, make("optgroup", { label: group }));
      list.append(groups.get(group));
    }
    groups.get(group).append(option);
  });
  return { field: make("label", { class: "field" }, label, list), list };
}

// A slider over a few leads, with its lead in words beside it.
function leadSlider(label, hours, chosen, onChange) {
  const words = make("span", { class: "lead" }, leadText(hours[chosen]));
  const range = make("input", { type: "range", min: 0, max: hours.length - 1, step: 1, value: chosen });
  const show = (i) => {
    range.value = i;
    range.setAttribute("aria-valuetext", leadText(hours[i]));
    words.textContent = leadText(hours[i]);
  };
  range.addEventListener("input", () => {
    show(Number(range.value));
    onChange(Number(range.value));
  });
  show(chosen);
  return { field: make("label", { class: "field wide" }, make("span", {}, `${label}: `, words), range), show };
}

function setUpControls() {
  const names = DATA.forecasters.map(({ label }) => ({ text: label }));
  const a = select("Forecaster", names, state.forecaster, (i) => choosePair("forecaster", "reference", i));
  const b = select("compared with", names, state.reference, (i) => choosePair("reference", "forecaster", i));
  const some = DATA.variables.some((v) => !v.headline);
  const variables = DATA.variables.map((v) => ({
    text: v.label,
    group: some ? (v.headline ? "Headline" : "More variables") : null,
  }));
  const variable = select("Variable", variables, state.variable, (i) => update({ variable: i }));
  const regions = DATA.regions.map(({ label }) => ({ text: label }));
  const region = select("Region", regions, state.region, (i) => update({ region: i }));
  const form = byId("controls");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(a.field, b.field, variable.field, region.field);
  // Whoever is chosen against itself changes places with the other one.
  function choosePair(key, other, i) {
    const hidden = new Set(state.hidden);
    hidden.delete(i);
    update(state[other] === i ? { [key]: i, [other]: state[key], hidden } : { [key]: i, hidden });
  }
  watch(["forecaster", "reference", "variable", "region"], () => {
    [a, b, variable, region].forEach(({ list }, k) => {
      list.value = [state.forecaster, state.reference, state.variable, state.region][k];
    });
  });
}
