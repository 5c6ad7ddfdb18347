// Draws an answer. Text reaches the page through text nodes alone: a title is never HTML.

const STATES = {
  cached: "Encoded earlier, and nothing has happened since: the encoded history came from the cache.",
  computed: "The history was read and encoded for this very question.",
  session: "The stored history and the events of the running session.",
  anonymous: "Nothing is known of this user: this is what is popular.",
};
const CONDITIONS = {
  exposure: "Probabilities hold for an item that is shown in first place.",
  "sampled candidates": "Probabilities hold among a few random items: they rank, they do not forecast.",
};
const READING = "An expected value is what its behaviour brings if it happens. Bars are drawn against the best shown.";
const REASONS = 4; // of a prediction that are shown
const NOTHING = "Nothing in the catalogue fits this question.";

const still = matchMedia("(prefers-reduced-motion: reduce)");
let last = { user: null, items: new Map() }; // the answer on the page: whose, and its recommendations by item id

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; strings become text nodes. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const chip = (text, kind = "") => make("span", { className: `chip ${kind}` }, text);
const part = (text) => make("span", { className: "number" }, text);
const change = (kind, text) => make("span", { className: `move ${kind}` }, text);
const percent = (p) => `${(100 * p).toPrecision(p < 0.1 ? 2 : 3)} %`;

/** What the answer rests on; `news` says which event made the history longer. */
export function showProvenance({ provenance, took_ms, warnings }, news) {
  const { state, state_age_ms, history, degraded } = provenance;
  const card = $("provenance");
  const events = news ? `${card.dataset.history} → ${history} events` : `${history} events`;
  const line = [chip(state, state), part(`history: ${events}`), part(`answered in ${took_ms.toFixed(1)} ms`)];
  if (state === "cached") line.push(part(`state ${(state_age_ms / 1000).toFixed(1)} s old`));
  line.push(...degraded.map((name) => chip(`without ${name}`, "bad")));
  line.push(...warnings.map(({ code, item_id }) => chip(`${code}: ${item_id}`, "doubt")));
  const sentence = make("span", { className: "muted" }, make("strong", {}, news), ` ${STATES[state]}`);
  Object.assign(card.dataset, { state, history });
  card.replaceChildren(make("div", { className: "chips" }, ...line), sentence);
}

/** The recommendations, each with how it moved since the user's last answer. `act` takes a behaviour and an item. */
export function showItems({ recommendations, user_id }, model, acted, act) {
  const list = $("items");
  const before = last.user === user_id ? last.items : new Map();
  const focus = document.activeElement?.dataset.key;
  const tops = new Map([...list.children].map((row) => [row.dataset.item, row.getBoundingClientRect().top]));
  const best = (name) => Math.max(...recommendations.map((item) => item.probabilities[name]));
  const most = Object.fromEntries(model.targets.map((name) => [name, best(name)]));
  const behaviours = model.behaviours ?? model.targets.map((name) => ({ name }));
  const rows = recommendations.map((item) => {
    const does = (behaviour) => user_id && (() => act(behaviour, item)); // nobody does nothing
    const buttons = behaviours.map((behaviour) => button(behaviour.name, item, does(behaviour)));
    return row(item, before, buttons, bars(item, most), item.item_id === acted);
  });
  list.replaceChildren(...rows);
  rows.forEach((element) => glide(element, tops.get(element.dataset.item)));
  const same = [...list.querySelectorAll("button")].find((element) => element.dataset.key === focus);
  if (focus) (same ?? $("provenance")).focus();
  $("note").textContent = rows.length ? `${CONDITIONS[model.probability_of] ?? ""} ${READING}` : NOTHING;
  last = { user: user_id, items: new Map(recommendations.map((item) => [item.item_id, item])) };
}

function button(name, { item_id, title }, act) {
  const element = make("button", { type: "button", disabled: !act, ariaLabel: `${name} ${title ?? item_id}` }, name);
  element.dataset.key = `${name} ${item_id}`;
  if (act) element.addEventListener("click", act);
  return element;
}

function row(item, before, buttons, chart, acted) {
  const old = before.get(item.item_id) ?? item;
  const step = before.size && old === item ? change("new", "new") : moved(old.rank - item.rank);
  const grown = Math.round(100 * (item.score / (old.score || item.score) - 1)); // in percent
  const facts = `${item.item_id} · ${item.reason} · score ${Number(item.score.toPrecision(3))} `;
  const element = make(
    "li", { className: acted ? "acted" : "" },
    make("div", { className: "place number" }, `${item.rank}`, step),
    make(
      "div", {},
      make("div", { className: "name" }, item.title ?? item.item_id),
      make("div", { className: "facts number" }, facts, moved(grown, " %")),
      ...why(item.explanation),
      make("div", { className: "actions" }, ...buttons),
    ),
    chart,
  );
  element.dataset.item = item.item_id;
  return element;
}

/** For each target a line of what moved it most, in log-odds. */
function why(explanation) {
  return Object.entries(explanation ?? {}).map(([target, { events, context, attributes }]) => {
    const parts = [
      ...events.map((part) => [`${part.type} “${part.title ?? part.item_id}”`, part.contribution]),
      ...context.map((part) => [`${part.field} ${part.value ?? "unknown"}`, part.contribution]),
      ...attributes.map((part) => [part.attribute === "item" ? "this very item" : part.attribute, part.contribution]),
    ];
    const most = parts.sort(([, a], [, b]) => Math.abs(b) - Math.abs(a)).slice(0, REASONS);
    const said = most.filter(([, by]) => by.toFixed(2) !== "0.00" && by.toFixed(2) !== "-0.00");
    const words = said.map(([what, by]) => change(by > 0 ? "up" : "down", `${what} ${by > 0 ? "+" : ""}${by.toFixed(2)}`));
    return make("div", { className: "why number" }, make("span", { className: "muted" }, `why ${target}`), ...words);
  });
}

/** How far something rose or fell. */
function moved(by, unit = "") {
  if (!by) return "";
  return by > 0 ? change("up", `▲ ${by}${unit}`) : change("down", `▼ ${-by}${unit}`);
}

function bars({ probabilities, expected }, most) {
  const box = make("div", { className: "bars" });
  Object.entries(probabilities).forEach(([name, p], place) => {
    const fill = make("i");
    fill.style.width = `${(100 * p) / (most[name] || 1)}%`;
    fill.style.setProperty("--bar", `var(--bar-${place % 4})`);
    const track = make("span", { className: "track", ariaHidden: "true" }, fill);
    box.append(make("span", {}, name), track, part(percent(p)));
  });
  const worth = Object.entries(expected).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(" · ");
  if (worth) box.append(make("span", { className: "worth number" }, `expected ${worth}`));
  return box;
}

/** Let a row move from where its item was. */
function glide(element, from) {
  const by = from - element.getBoundingClientRect().top;
  if (!by || still.matches) return; // new here, or in its place
  element.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
}
