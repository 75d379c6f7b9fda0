// The console: a chat, live figures of the engine, and where the time of each request went.
//
// Everything comes from the server that sent this page: /v1/chat/completions, /tokenize and /console/state.

const element = (id) => document.getElementById(id);
const KEY = "quire-key";
const POLL_MS = 1000;
const KEPT_POINTS = 120;
const CAUSES = ["queue", "prefill", "decode", "preempted", "restart", "send"];

const conversation = [];
let model = "";
let under_way = null; // the AbortController of the answer that is being written

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

async function ask(path, body, options = {}) {
  const headers = { "content-type": "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key && /^[\x21-\x7e]+$/.test(key)) headers.authorization = `Bearer ${key}`;
  if (options.explains) headers["x-quire-explain"] = "true";
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: options.signal,
    cache: "no-store",
  });
  if (answer.status === 401) {
    element("key-form").hidden = false;
    element("console").hidden = true;
  }
  if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error?.message ?? `status ${answer.status}`);
  return answer;
}

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, element("key").value);
  element("key-form").hidden = true;
  element("console").hidden = false;
  poll();
});

// ---- chat ------------------------------------------------------------------------------------------------------------

const PARAMETERS = ["temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "max_tokens", "seed"];

function asked_for() {
  const body = { model, messages: [...conversation] };
  const system = element("system").value.trim();
  if (system) body.messages.unshift({ role: "system", content: system });
  for (const name of PARAMETERS) {
    const text = element(name).value;
    if (text !== "") body[name] = Number(text);
  }
  if (element("ignore_eos").value) body.ignore_eos = true;
  return body;
}

function add_turn(role, text) {
  const shown = make("div", { class: "text" }, text);
  const turn = make("div", { class: `turn ${role}` }, make("h3", {}, role === "user" ? "You" : model), shown);
  element("log").append(turn);
  element("log").scrollTop = element("log").scrollHeight;
  return { turn, shown };
}

// The prompt token by token, as the model is given it.
async function show_prompt(turn, messages) {
  const details = make("details", {}, make("summary", {}, "The prompt as the model saw it"));
  turn.append(details);
  details.addEventListener("toggle", async () => {
    if (!details.open || details.childElementCount > 1) return;
    try {
      const found = await (await ask("tokenize", { model, messages, return_token_strs: true })).json();
      const tokens = make("div", { class: "tokens" });
      found.tokens.forEach((id, i) => tokens.append(make("span", { title: `token ${id}` }, found.token_strs[i]), "\u200b"));
      details.append(make("p", { class: "quiet" }, `${found.count} tokens`), tokens, make("pre", {}, found.tokens.join(" ")));
    } catch (error) {
      details.append(make("p", { class: "error" }, error.message));
    }
  });
}

function show_explanation(turn, explained) {
  if (!explained) return;
  const text = JSON.stringify(explained, null, 2);
  turn.append(make("details", {}, make("summary", {}, "Parameters in effect, and where the time went"), make("pre", {}, text)));
}

// The events of a stream, each parsed; the last word, [DONE], ends it.
async function* events_of(answer) {
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data:")) continue; // a comment that keeps the connection alive
      const data = part.slice(5).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
  throw new Error("The answer was cut off.");
}

async function answer_turn() {
  const body = asked_for();
  const { turn, shown } = add_turn("assistant", "");
  under_way = new AbortController();
  element("send").disabled = true;
  element("stop").disabled = false;
  element("log").setAttribute("aria-busy", "true");
  let said = "";
  let explained = null;
  try {
    const options = { signal: under_way.signal, explains: true };
    const answer = await ask("v1/chat/completions", { ...body, stream: true }, options);
    for await (const event of events_of(answer)) {
      if (event.error) throw new Error(event.error.message);
      explained = event.quire ?? explained;
      const text = event.choices?.[0]?.delta?.content;
      if (text) {
        said += text;
        shown.textContent = said;
        element("log").scrollTop = element("log").scrollHeight;
      }
    }
    turn.dataset.ended = "whole";
  } catch (error) {
    turn.dataset.ended = "cut";
    const why = error.name === "AbortError" ? "Stopped." : error.message;
    turn.append(make("p", { class: "error", role: "alert" }, why));
  } finally {
    under_way = null;
    element("send").disabled = false;
    element("stop").disabled = true;
    element("log").removeAttribute("aria-busy");
  }
  if (!turn.isConnected) return; // a new conversation was begun meanwhile
  if (said) conversation.push({ role: "assistant", content: said });
  else conversation.pop(); // templates want question and answer in turn
  show_prompt(turn, body.messages);
  show_explanation(turn, explained);
}

element("chat").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = element("message").value.trim();
  if (!text || under_way) return;
  element("message").value = "";
  conversation.push({ role: "user", content: text });
  add_turn("user", text);
  answer_turn();
});
element("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    element("chat").requestSubmit();
  }
});
element("stop").addEventListener("click", () => under_way?.abort());
element("clear").addEventListener("click", () => {
  under_way?.abort();
  conversation.length = 0;
  element("log").replaceChildren();
  element("message").focus();
});

// ---- figures ---------------------------------------------------------------------------------------------------------

const whole = (x) => Math.round(x).toLocaleString("en");
const percent = (x) => `${(100 * x).toFixed(1)} %`;
const milliseconds = (x) => (x === null ? "none yet" : `${(1000 * x).toFixed(0)} ms`);

// What is drawn: from this state and the one before it.
const CHARTS = [
  ["Tokens a second", whole, (now, before, s) => (now.generation_tokens - before.generation_tokens) / s],
  ["Running sequences", whole, (now) => now.num_running],
  ["Waiting sequences", whole, (now) => now.num_waiting],
  ["KV blocks in use", percent, (now) => (now.num_blocks ? now.num_blocks_held / now.num_blocks : 0)],
  ["Prefix cache hits", percent, (now, before) => share(now, before)],
  ["Time to first token", milliseconds, (now, before) => mean_first(now, before)],
];

function share(now, before) {
  const asked = now.prefix_queries - before.prefix_queries;
  if (asked > 0) return (now.prefix_hits - before.prefix_hits) / asked;
  return now.prefix_queries ? now.prefix_hits / now.prefix_queries : 0;
}

function mean_first(now, before) {
  const count = now.num_first_tokens - before.num_first_tokens;
  if (count > 0) return (now.first_token_s - before.first_token_s) / count;
  return now.num_first_tokens ? now.first_token_s / now.num_first_tokens : null;
}

const SVG = "http://www.w3.org/2000/svg";
const charts = CHARTS.map(([name, said, value]) => {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${KEPT_POINTS} 30`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "polyline");
  svg.append(line);
  const number = make("b", {}, "");
  element("charts").append(make("figure", {}, make("figcaption", {}, make("span", {}, name), number), svg));
  return { said, value, line, number, points: [] };
});

function draw(chart, value) {
  chart.number.textContent = chart.said(value);
  chart.points.push(value ?? 0);
  if (chart.points.length > KEPT_POINTS) chart.points.shift();
  const most = Math.max(...chart.points, 1e-9);
  const first = KEPT_POINTS - chart.points.length;
  chart.line.setAttribute("points", chart.points.map((y, i) => `${first + i},${29 - (28 * y) / most}`).join(" "));
}

function show_facts(state) {
  const facts = {
    "Engine restarts": state.num_restarts,
    "Preemptions": state.num_preemptions,
    "Tokens generated": whole(state.generation_tokens),
    "Prompt tokens": whole(state.prompt_tokens),
    "Engine's memory": `${whole(state.resident_bytes / 2 ** 20)} MiB`,
  };
  element("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

element("legend").append(...CAUSES.flatMap((cause) => [make("span", { class: `swatch cause-${cause}` }), cause]));

function row_of(request) {
  const total = Math.max(1e-9, request.wall_s);
  const spans = CAUSES.map((cause) => [cause, request.spans[cause] ?? 0]).filter(([, seconds]) => seconds > 0);
  const said = spans.map(([cause, seconds]) => `${cause} ${seconds.toFixed(3)} s`).join(", ");
  const bar = make("div", { class: "bar", role: "img", "aria-label": said, title: said });
  for (const [cause, seconds] of spans) {
    const part = make("span", { class: `cause-${cause}` });
    part.style.width = `${(100 * seconds) / total}%`;
    bar.append(part);
  }
  const cells = [request.id.slice(0, 8), request.prompt_tokens, request.cached_tokens, request.generated_tokens, total.toFixed(3)];
  return make("tr", {}, ...cells.map((cell) => make("td", {}, String(cell))), make("td", {}, bar));
}

// ---- the loop --------------------------------------------------------------------------------------------------------

let before = null;

function say_health(text, is_well) {
  const shown = element("health");
  if (shown.textContent !== text) shown.textContent = text;
  shown.className = is_well ? "well" : "ill";
}

async function poll() {
  try {
    const state = await (await ask("console/state")).json();
    state.at_s = performance.now() / 1000;
    model = state.model;
    element("model").textContent = `${state.model} · Quire ${state.version} · ${whole(state.max_model_len)} tokens of context`;
    const last = before ?? state;
    const seconds = Math.max(0.001, state.at_s - last.at_s);
    for (const chart of charts) draw(chart, chart.value(state, last, seconds));
    show_facts(state);
    element("requests").replaceChildren(...state.requests.map(row_of));
    say_health(state.is_alive ? "serving" : "the engine is being restarted", state.is_alive);
    before = state;
  } catch (error) {
    say_health(element("key-form").hidden ? `no answer: ${error.message}` : "needs a key", false);
  }
}

poll();
setInterval(() => {
  if (!document.hidden && element("key-form").hidden) poll();
}, POLL_MS);
