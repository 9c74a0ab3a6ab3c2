// A running answer: phase, pictures, text as it comes, a stop button. Text is only ever set as text.
function element(tag, name, parent) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (parent) parent.appendChild(made);
  return made;
}

function initialize({ model }) {
  // Pieces may come before a view is there: they are gathered on the model.
  const state = { text: "", views: new Set() };
  model.omlx = state;
  const show = () => state.views.forEach((view) => view());
  model.on("change:text", () => {
    const text = model.get("text");
    if (text.length > state.text.length) state.text = text;
    show();
  });
  model.on("change:phase", show);
  model.on("msg:custom", ({ o, d, p }) => {
    if (d !== undefined && o <= state.text.length) state.text = state.text.slice(0, o) + d;
    if (p !== undefined) state.phase = p;
    show();
  });
  return () => state.views.clear();
}

function render({ model, el }) {
  const state = (model.omlx ??= { text: "", views: new Set() });
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
  const body = element("div", "omlx-text", el);
  const view = () => {
    phase.textContent = state.phase ?? model.get("phase");
    body.textContent = state.text;
  };
  state.views.add(view);
  view();
  return () => state.views.delete(view);
}

export default { initialize, render };
