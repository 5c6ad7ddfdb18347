// Asks the service and shows its answer. Text reaches the page through textContent alone: a title is never HTML.

const $ = (id) => document.getElementById(id);
const form = $("ask");
const items = $("items");
const still = matchMedia("(prefers-reduced-motion: reduce)");

let model; // `active` of GET /models
let last = { user: null, items: new Map() }; // the answer on the page: whose, and its recommendations by item id
let queued; // the timer of the next question
let asked = 0; // questions so far: an answer that was overtaken is dropped

/** An element with properties and children; strings become text nodes. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const chip = (text, kind = "") => make("span", { className: `chip ${kind}` }, text);
const part = (text) => make("span", { className: "number" }, text);
const short = (x) => `${Number(x.toPrecision(3))}`;
const percent = (p) => `${(100 * p).toPrecision(p < 0.1 ? 2 : 3)} %`;

/** The JSON of a route. Throws an Error that has the service's sentence, and the fields at fault. */
async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  const request = body && { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(path, request).catch(() => {
    throw new Error("The service does not answer. Is it running?");
  });
  const answer = await response.json().catch(() => {
    throw new Error(`Something between here and the service answered with status ${response.status}.`);
  });
  if (!response.ok) throw Object.assign(new Error(answer.detail), { fields: answer.fields });
  return answer;
}

/** Run a step, and show what went wrong with it in words. */
async function attempt(step) {
  try {
    await step();
  } catch (error) {
    const fields = (error.fields ?? []).map(({ field, problem }) => make("li", {}, `${field}: ${problem}`));
    $("error").replaceChildren(make("strong", {}, error.message), make("ul", {}, ...fields));
    $("error").hidden = false;
  }
}

// The question

const named = (prefix) => [...form.elements].filter((control) => control.name.startsWith(prefix));
const byName = (controls) => Object.fromEntries(controls.map(({ name, value }) => [name.split(/\.(.*)/)[1], value]));
const context = () => byName(named("context.").filter((control) => control.value !== ""));

/** The body of POST /predict as the form says it; what is left at the model's own is left out. */
function question() {
  const user = form.elements.user.value;
  const weights = named("objective.");
  const body = user ? { user_id: user } : { session: [] };
  body.k = Number(form.elements.k.value);
  if (Object.keys(context()).length) body.context = context();
  if (weights.some((slider) => slider.value !== slider.dataset.own)) {
    body.objective = Object.fromEntries(Object.entries(byName(weights)).map(([name, value]) => [name, Number(value)]));
  }
  if (Number(form.elements.diversity.value)) body.diversity = Number(form.elements.diversity.value);
  return body;
}

async function predict(news = "", acted = null) {
  const body = question();
  const number = ++asked;
  const answer = await call("predict", body);
  if (number !== asked) return;
  history.replaceState(null, "", body.user_id ? `?user=${encodeURIComponent(body.user_id)}` : location.pathname);
  $("error").hidden = true;
  showProvenance(answer, news);
  showItems(answer, acted);
  showExchange(body, answer);
}

/** Enter in a field is a change and a submit: one question. */
function soon() {
  clearTimeout(queued);
  queued = setTimeout(attempt, 0, predict);
}

/** Store an event, then ask again: the next prediction knows. */
async function act(behaviour, item) {
  const event = { event_id: `page-${crypto.getRandomValues(new BigUint64Array(1))[0]}` };
  Object.assign(event, { user_id: last.user, item_id: item.item_id, type: behaviour.name, request_id: last.request });
  if (behaviour.value in item.expected) event.value = item.expected[behaviour.value];
  if (Object.keys(context()).length) event.context = context();
  const { rejected, degraded } = await call("events", { events: [event] });
  if (rejected.length) throw new Error(rejected[0].detail);
  const late = degraded.length ? " The cache is away, so a prediction may be late to know." : "";
  await predict(`Stored: ${behaviour.name} on “${item.title ?? item.item_id}”.${late}`, item.item_id);
}

// The answer

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
const NOTHING = "Nothing in the catalogue fits this question.";

function showProvenance({ provenance, took_ms, warnings }, news) {
  const { state, state_age_ms, history: events, degraded } = provenance;
  const grown = news ? `${$("provenance").dataset.history} → ${events} events` : `${events} events`;
  const line = [chip(state, state), part(`history: ${grown}`), part(`answered in ${took_ms.toFixed(1)} ms`)];
  if (state === "cached") line.push(part(`state ${(state_age_ms / 1000).toFixed(1)} s old`));
  line.push(...degraded.map((name) => chip(`without ${name}`, "bad")));
  line.push(...warnings.map(({ code, item_id }) => chip(`${code}: ${item_id}`, "doubt")));
  const sentence = make("span", { className: "muted" }, news ? make("strong", {}, news) : "", ` ${STATES[state]}`);
  $("provenance").dataset.state = state;
  $("provenance").dataset.history = events;
  $("provenance").replaceChildren(make("div", { className: "chips" }, ...line), sentence);
}

function showItems({ recommendations, request_id, user_id }, acted) {
  const before = last.user === user_id ? last.items : new Map();
  const focus = document.activeElement?.dataset.key;
  const tops = new Map([...items.children].map((row) => [row.dataset.item, row.getBoundingClientRect().top]));
  last = { user: user_id, request: request_id, items: new Map(recommendations.map((r) => [r.item_id, r])) };
  const most = Object.fromEntries(
    model.targets.map((name) => [name, Math.max(...recommendations.map((r) => r.probabilities[name]))]),
  );
  items.replaceChildren(...recommendations.map((item) => row(item, before, most, acted)));
  for (const element of items.children) glide(element, tops.get(element.dataset.item));
  const same = [...items.querySelectorAll("button")].find((button) => button.dataset.key === focus);
  if (focus) (same ?? $("provenance")).focus();
  $("note").textContent = recommendations.length ? `${CONDITIONS[model.probability_of] ?? ""} ${READING}` : NOTHING;
}

function row(item, before, most, acted) {
  const old = before.get(item.item_id) ?? item;
  const arrived = before.size && old === item;
  const rise = item.score - old.score;
  const grown = Math.abs(rise) > 0.005 * old.score ? rise : 0; // less is rounding: cached states are float16
  const buttons = behaviours().map((behaviour) => {
    const button = make("button", { type: "button", disabled: !last.user }, behaviour.name);
    button.dataset.key = `${behaviour.name} ${item.item_id}`;
    button.setAttribute("aria-label", `${behaviour.name} ${item.title ?? item.item_id}`);
    button.addEventListener("click", () => attempt(() => act(behaviour, item)));
    return button;
  });
  const element = make(
    "li", { className: item.item_id === acted ? "acted" : "" },
    make("div", { className: "place number" }, `${item.rank}`, arrived ? change("new", "new") : moved(old.rank - item.rank)),
    make(
      "div", {},
      make("div", { className: "name" }, item.title ?? item.item_id),
      make(
        "div", { className: "facts number" },
        `${item.item_id} · ${item.reason} · score ${short(item.score)} `, moved(Number(grown.toPrecision(2))),
      ),
      make("div", { className: "actions" }, ...buttons),
    ),
    bars(item, most),
  );
  element.dataset.item = item.item_id;
  return element;
}

const change = (kind, text) => make("span", { className: `move ${kind}` }, text);

/** How far something rose or fell since the answer before this one. */
function moved(by) {
  if (!by) return "";
  return by > 0 ? change("up", `▲ ${by}`) : change("down", `▼ ${-by}`);
}

function bars({ probabilities, expected }, most) {
  const box = make("div", { className: "bars" });
  Object.entries(probabilities).forEach(([name, p], place) => {
    const fill = make("i");
    fill.style.width = `${(100 * p) / (most[name] || 1)}%`;
    fill.style.setProperty("--bar", `var(--bar-${place % 4})`);
    box.append(make("span", {}, name), make("span", { className: "track", ariaHidden: "true" }, fill), part(percent(p)));
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

function showExchange(body, answer) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const url = new URL("predict", location.href);
  $("curl").textContent = `curl -s ${url} -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
  $("json").textContent = JSON.stringify(answer, null, 2);
}

async function copy() {
  await navigator.clipboard.writeText($("curl").textContent);
  $("copy").textContent = "Copied";
}

// The model

const behaviours = () => model.behaviours ?? model.targets.map((name) => ({ name }));

function showModel() {
  const synthetic = model.facts.dataset?.synthetic;
  const where = model.device.startsWith("gpu") ? "good" : "";
  const chips = [chip(`${model.name} ${model.version}`, "main"), chip(model.kind), chip(model.device, where)];
  if (synthetic) chips.push(chip("synthetic data", "synthetic"));
  $("model").replaceChildren(make("span", { className: "muted" }, "Answers come from"), ...chips);
}

/** What the model knows of the moment: a choice, where it says which values it knows. */
function contextField(name) {
  const known = model.context_values?.[name];
  const options = ["", ...(known ?? [])].map((value) => make("option", { value }, value || "unknown"));
  const control = known ? make("select", {}, ...options) : make("input", { placeholder: "unknown", maxLength: 256 });
  control.name = `context.${name}`;
  return make("label", { className: "field" }, name, control);
}

function weight(name) {
  const value = model.objective[name];
  const scale = { min: Math.min(0, value), max: Math.max(1, value), step: 0.01 };
  const slider = make("input", { type: "range", name: `objective.${name}`, ...scale, value });
  slider.dataset.own = slider.value; // as the slider rounds it
  return make("label", { className: "range" }, `${name} `, make("output"), slider);
}

const say = (slider) => (slider.parentElement.querySelector("output").textContent = slider.value);

async function start() {
  model = (await call("models")).active;
  showModel();
  $("context").append(...model.context.map(contextField));
  $("context").hidden = !model.context.length;
  $("objective").append(...model.targets.map(weight));
  form.querySelectorAll("[type=range]").forEach(say);
  form.elements.user.value = new URLSearchParams(location.search).get("user") ?? "";
  form.addEventListener("input", ({ target }) => target.type === "range" && say(target));
  form.addEventListener("change", () => form.reportValidity() && soon());
  form.addEventListener("submit", (event) => (event.preventDefault(), soon()));
  $("tune").open = matchMedia("(min-width: 761px)").matches;
  $("copy").hidden = !navigator.clipboard; // browsers lend it to secure pages and to localhost only
  $("copy").addEventListener("click", () => attempt(copy));
  await predict();
}

attempt(start);
