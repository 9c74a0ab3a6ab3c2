// A running answer: phase, pictures, Markdown that grows, a stop button. Text is only ever set as text.
function element(tag, name, parent, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

// `code`, **bold**, *italic*; a link is shown as it is written. The rest stays text.
function inline(parent, text) {
  const mark = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*/g;
  let at = 0;
  for (const found of text.matchAll(mark)) {
    parent.append(text.slice(at, found.index));
    if (found[1] !== undefined) element("code", "", parent, found[1]);
    else element(found[2] !== undefined ? "strong" : "em", "", parent, found[2] ?? found[3]);
    at = found.index + found[0].length;
  }
  parent.append(text.slice(at));
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(parent, lines) {
  const made = element("table", "", parent);
  lines.forEach((line, row) => {
    if (row === 1) return;
    const tr = element("tr", "", made);
    for (const cell of cells(line)) inline(element(row ? "td" : "th", "", tr), cell);
  });
}

function list(parent, lines, ordered) {
  const made = element(ordered ? "ol" : "ul", "", parent);
  for (const line of lines) inline(element("li", "", made), line.replace(/^\s*([-*+]|\d+[.)])\s+/, ""));
}

// One block: what stands between blank lines, or a code fence with all that is in it.
function block(parent, text) {
  const lines = text.split("\n");
  const heading = /^(#{1,6})\s+(.*)$/.exec(lines[0]);
  if (/^\s*(```|~~~)/.test(lines[0])) {
    const closed = lines.length > 1 && /^\s*(```|~~~)\s*$/.test(lines[lines.length - 1]);
    element("code", "", element("pre", "", parent), lines.slice(1, closed ? -1 : undefined).join("\n"));
  } else if (heading) {
    inline(element(`h${heading[1].length}`, "", parent), heading[2]);
    if (lines.length > 1) block(parent, lines.slice(1).join("\n"));
  } else if (lines.length > 1 && lines[0].includes("|") && /^[\s|:-]+$/.test(lines[1]) && lines[1].includes("-")) {
    table(parent, lines);
  } else if (lines.every((line) => /^\s*[-*+]\s+/.test(line))) list(parent, lines, false);
  else if (lines.every((line) => /^\s*\d+[.)]\s+/.test(line))) list(parent, lines, true);
  else if (lines.every((line) => line.startsWith(">"))) {
    inline(element("blockquote", "", parent), lines.map((line) => line.replace(/^>\s?/, "")).join("\n"));
  } else inline(element("p", "", parent), text);
}

// Where the last block begins: blocks before it can't change any more.
function lastBlock(text) {
  let start = 0, fence = "", at = 0;
  for (const line of text.split("\n").slice(0, -1)) {
    const mark = /^\s*(```|~~~)/.exec(line)?.[1];
    if (mark && !fence) {
      fence = mark;
      start = at;
    } else if (mark === fence) fence = "";
    at += line.length + 1;
    if (!fence && (line.trim() === "" || mark)) start = at;
  }
  return Math.min(start, text.length);
}

// Draws a growing text: finished blocks once, the last one again at each change.
export function grower(body) {
  let done = "";
  const fixed = element("div", "", body), tail = element("div", "", body);
  return (text) => {
    if (!text.startsWith(done)) {
      done = "";
      fixed.replaceChildren();
    }
    const until = lastBlock(text);
    for (const part of blocks(text.slice(done.length, until))) block(fixed, part);
    if (until > done.length) done = text.slice(0, until);
    tail.replaceChildren();
    const rest = text.slice(done.length).replace(/\n+$/, "");
    if (rest.trim()) block(tail, rest);
  };
}

function blocks(text) {
  const found = [];
  let current = [], fence = "";
  const close = () => {
    if (current.length) found.push(current.join("\n"));
    current = [];
  };
  for (const line of text.split("\n")) {
    const mark = /^\s*(```|~~~)/.exec(line)?.[1];
    if (!fence && mark) close();
    if (!fence && !mark && line.trim() === "") close();
    else current.push(line);
    if (mark && !fence) fence = mark;
    else if (mark === fence && fence) {
      fence = "";
      close();
    }
  }
  close();
  return found;
}

// A thought above the answer, folded: a line with its size that a click, Enter or a blank opens.
export function folded(parent) {
  const made = element("details", "omlx-thought", parent);
  made.setAttribute("data-lm-suppress-shortcuts", "true"); // the keys are its own, not JupyterLab's
  made.hidden = true;
  const line = element("summary", "", made), body = element("pre", "", made);
  let shown = "";
  return (text, label) => {
    made.hidden = !(text || label);
    if (line.textContent !== label) line.textContent = label;
    if (text.startsWith(shown)) body.append(text.slice(shown.length));
    else body.textContent = text;
    shown = text;
  };
}

function render({ model, el }) {
  // A view that comes late takes up the text that the model has; pieces go on from there.
  const state = { text: model.get("text"), thought: "", line: "" };
  el.classList.add("omlx-live");
  const head = element("div", "omlx-head", el);
  for (const url of model.get("thumbnails")) {
    const image = element("img", "", head);
    if (url.startsWith("data:image/")) image.src = url;
    image.alt = "picture in the question";
  }
  const phase = element("span", "omlx-phase", head);
  phase.setAttribute("role", "status");
  const kernel = model.widget_manager?.kernel ?? model.widget_manager?.context?.sessionContext?.session?.kernel;
  if (kernel?.interrupt && model.get("stoppable")) {
    const stop = element("button", "omlx-stop", head);
    stop.textContent = "Stop";
    stop.title = "Stop writing; what is written is kept";
    stop.onclick = () => {
      stop.disabled = true;
      kernel.interrupt();
    };
  }
  const think = folded(el);
  const grow = grower(element("div", "omlx-text", el));
  const view = () => {
    phase.textContent = state.phase ?? model.get("phase");
    think(state.thought, state.line);
    grow(state.text);
  };
  const onText = () => {
    const text = model.get("text");
    if (text.length > state.text.length) state.text = text;
    view();
  };
  const onMessage = ({ o, d, p, to, t, l }) => {
    if (d !== undefined && o <= state.text.length) state.text = state.text.slice(0, o) + d;
    if (t !== undefined && to <= state.thought.length) state.thought = state.thought.slice(0, to) + t;
    if (l !== undefined) state.line = l;
    if (p !== undefined) state.phase = p;
    view();
  };
  model.on("change:text", onText);
  model.on("change:phase", view);
  model.on("msg:custom", onMessage);
  view();
  return () => {
    model.off("change:text", onText);
    model.off("change:phase", view);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
