// Asks the service what the form says, and tells it what the buttons say. What an answer looks like: answer.js.

import { $, chip, make, showItems, showProvenance } from "./answer.js";

const form = $("ask");
let model; // `active` of GET /models
let queued; // the timer of the next question
let asked = 0; // questions so far: an answer that was overtaken is dropped

/** The JSON of a route. Throws an Error that has the service's sentence, and the fields at fault. */
async function call(path, body) {
  const key = $("key").value && { Authorization: `Bearer ${$("key").value}` };
  const headers = { "Content-Type": "application/json", ...key };
  const request = body && { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(path, { headers, ...request }).catch(() => {
    throw new Error("The service does not answer. Is it running?");
  });
  const answer = await response.json().catch(() => {
    throw new Error(`Something between here and the service answered with status ${response.status}.`);
  });
  if (response.status === 401) $("door").hidden = false;
  if (!response.ok) throw Object.assign(new Error(answer.detail), { fields: answer.fields });
  return answer;
}

/** Run a step, and show what went wrong with it in words. */
async function attempt(step) {
  try {
    await step();
  } catch (error) {
    const several = error.fields?.length > 1 ? error.fields : []; // a single one is the sentence
    const fields = several.map(({ field, problem }) => make("li", {}, `${field}: ${problem}`));
    $("error").replaceChildren(make("strong", {}, error.message), make("ul", {}, ...fields));
    $("error").hidden = false;
  }
}

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
  if (form.elements.explain.checked) body.explain = true;
  return body;
}

/** Ask, and show the answer; with the news of an event that was stored, and the item it was about. */
async function predict(news = "", acted = null) {
  const body = question();
  const number = ++asked;
  const answer = await call("predict", body);
  if (number !== asked) return;
  history.replaceState(null, "", body.user_id ? `?user=${encodeURIComponent(body.user_id)}` : location.pathname);
  $("error").hidden = true;
  showProvenance(answer, news);
  showItems(answer, model, acted, (behaviour, item) => attempt(() => act(behaviour, item, answer)));
  showExchange(body, answer);
}

/** Enter in a field is a change and a submit: one question. */
function soon() {
  clearTimeout(queued);
  queued = setTimeout(attempt, 0, predict);
}

/** Store an event, with the list that it came of, then ask again: the next prediction knows. */
async function act(behaviour, item, { user_id, request_id, recommendations }) {
  const event_id = `page-${crypto.getRandomValues(new BigUint64Array(1))[0]}`;
  const exposed = recommendations.map((each) => each.item_id);
  const event = { event_id, user_id, item_id: item.item_id, type: behaviour.name, request_id, exposed };
  if (behaviour.value in item.expected) event.value = item.expected[behaviour.value];
  if (Object.keys(context()).length) event.context = context();
  const { rejected, degraded } = await call("events", { events: [event] });
  if (rejected.length) throw new Error(rejected[0].detail);
  const late = degraded.length ? " The cache is away, so a prediction may be late to know." : "";
  await predict(`Stored: ${behaviour.name} on “${item.title ?? item.item_id}”.${late}`, item.item_id);
}

function showExchange(body, answer) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const url = new URL("predict", location.href);
  const key = $("key").value ? ' -H "Authorization: Bearer $KEY"' : "";
  $("curl").textContent = `curl -s ${url}${key} -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
  $("json").textContent = JSON.stringify(answer, null, 2);
  $("copy").textContent = "Copy";
}

async function copy() {
  await navigator.clipboard.writeText($("curl").textContent);
  $("copy").textContent = "Copied";
}

function showModel() {
  const where = model.device.startsWith("gpu") ? "good" : "";
  const chips = [chip(`${model.name} ${model.version}`, "main"), chip(model.kind), chip(model.device, where)];
  if (model.facts.dataset?.synthetic) chips.push(chip("synthetic data", "doubt"));
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

async function open() {
  model = (await call("models")).active;
  showModel();
  $("context").append(...model.context.map(contextField));
  $("context").hidden = !model.context.length;
  $("explain").hidden = !model.explains;
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

$("key").addEventListener("change", () => attempt(model ? predict : open));
attempt(open);
