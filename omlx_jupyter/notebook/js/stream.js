// A running answer: phase, pictures, text as it comes, a stop button. Text is only ever set as text.
function element(tag, name, parent) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (parent) parent.appendChild(made);
  return made;
}

function render({ model, el }) {
  // A view that comes late takes up the text that the model has; pieces go on from there.
  const state = { text: model.get("text") };
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
  const onText = () => {
    const text = model.get("text");
    if (text.length > state.text.length) state.text = text;
    view();
  };
  const onMessage = ({ o, d, p }) => {
    if (d !== undefined && o <= state.text.length) state.text = state.text.slice(0, o) + d;
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
