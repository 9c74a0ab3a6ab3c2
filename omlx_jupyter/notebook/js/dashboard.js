// What the engine of a kernel is doing. One draw function, for the widget and for JupyterLab's panel.
function element(tag, name, parent, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

const PHASES = { queued: "waiting", reading: "reading", prefill: "prefill", decode: "writing", done: "done" };

export function bytes(count) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (count < 1024 || unit === "GiB") return `${count < 10 && unit !== "B" ? count.toFixed(1) : Math.round(count)} ${unit}`;
    count /= 1024;
  }
}

// A folder's last two parts; a hub id as it is.
export function shortName(model) {
  return model.split("/").slice(-2).join("/");
}

// 350 tokens, 312 thought, 148 from drafts
function written({ tokens, thought, accepted }) {
  return `${tokens} tokens${thought ? `, ${thought} thought` : ""}${accepted ? `, ${accepted} from drafts` : ""}`;
}

function bar(parent, label, parts, total, text) {
  const row = element("div", "omlx-row", parent);
  element("span", "omlx-label", row, label);
  const track = element("div", "omlx-track", row);
  track.setAttribute("role", "img");
  track.setAttribute("aria-label", `${label}: ${text}`);
  for (const [name, value] of parts) {
    const part = element("div", `omlx-part omlx-${name}`, track);
    part.style.width = `${total ? (100 * value) / total : 0}%`;
  }
  element("span", "omlx-figure", row, text);
}

function speed(parent, history) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("viewBox", "0 0 120 24");
  svg.setAttribute("class", "omlx-speed");
  svg.setAttribute("role", "img");
  const last = history.length ? history[history.length - 1] : 0;
  svg.setAttribute("aria-label", `tokens per second over the last minute, now ${Math.round(last)}`);
  const most = Math.max(1, ...history);
  const line = document.createElementNS(namespace, "polyline");
  line.setAttribute("points", history.map((v, i) => `${i * (120 / Math.max(1, history.length - 1))},${23 - (22 * v) / most}`).join(" "));
  svg.appendChild(line);
  parent.appendChild(svg);
}

export function draw(el, state) {
  el.replaceChildren();
  el.classList.add("omlx-dashboard");
  if (!state || !state.model) {
    element("p", "", el, "No model is loaded yet; the first %ocr or %%vlm loads one.");
    return;
  }
  const head = element("div", "omlx-head", el);
  element("strong", "", head, shortName(state.model)).title = state.model;
  if (state.where) {
    const others = (state.others ?? []).length;
    element("span", "", head, ` on ${state.where}${others ? `, with ${others} more` : ""}`).title = (state.others ?? []).join("\n");
  }
  element("span", "omlx-phase", head, state.state);
  element("span", "omlx-figure", head, `${Math.round(state.tokens_per_s)} tokens/s`);
  speed(head, state.history);

  element("h4", "", el, "Batch");
  const lanes = element("div", "", el);
  for (const lane of state.lanes) {
    const writing = lane.phase === "decode";
    const [done, all] = writing ? [lane.tokens, Math.max(lane.tokens, lane.max_tokens)] : [lane.done, lane.total];
    bar(lanes, `${lane.number} ${PHASES[lane.phase] ?? lane.phase}`, [[lane.phase, done]], all || 1,
      writing ? written(lane) : `${lane.done} of ${lane.total}`);
  }
  if (!state.lanes.length) element("p", "omlx-quiet", el, "No request is running.");
  if (state.waiting_for) element("p", "omlx-quiet", el, `waiting: ${state.waiting_for}`);

  element("h4", "", el, "Prompt tokens by source, and answers");
  for (const done of state.recent) {
    const computed = done.prompt - done.ram - done.ssd;
    bar(el, `request ${done.number}`, [["ram", done.ram], ["ssd", done.ssd], ["computed", computed]], done.prompt,
      `${done.ram} RAM, ${done.ssd} SSD, ${computed} computed · ${written(done)}`);
  }
  if (!state.recent.length) element("p", "omlx-quiet", el, "Nothing has finished yet.");

  element("h4", "", el, "Memory");
  const cache = state.cache;
  bar(el, "RAM tier", [["ram", cache.ram_bytes]], cache.ram_budget, `${bytes(cache.ram_bytes)} of ${bytes(cache.ram_budget)}`);
  bar(el, "SSD tier", [["ssd", cache.ssd_bytes]], cache.ssd_budget,
    cache.ssd_paused ? `off: ${cache.ssd_paused}` : `${bytes(cache.ssd_bytes)} of ${bytes(cache.ssd_budget)}`);
  element("p", "omlx-quiet", el,
    `KV ${bytes(state.kv_bytes)} · pictures ${state.images_encoded} encoded, ${state.images_reused} reused · ` +
    `requests ${state.finished} finished, ${state.failed} failed · about ${cache.saved_s.toFixed(1)} s saved`);
}

function render({ model, el }) {
  const view = () => draw(el, model.get("state"));
  model.on("change:state", view);
  model.send({ here: true });
  view();
  return () => {
    model.off("change:state", view);
    model.send({ gone: true });
  };
}

export default { render };
