// Answers to look at, the least sure first: the picture, what was read, a field to correct it. Text is only set as text.
function element(tag, name, parent, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

function render({ model, el }) {
  el.classList.add("omlx-review");
  el.setAttribute("data-lm-suppress-shortcuts", "true");
  const head = element("div", "omlx-review-head", el);
  const image = element("img", "omlx-review-picture", el);
  const form = element("form", "omlx-review-form", el);
  const label = element("label", "", form);
  const input = element("textarea", "", form);
  input.rows = 2;
  input.id = `omlx-review-${Math.random().toString(36).slice(2)}`;
  label.htmlFor = input.id;
  const save = element("button", "", form, "Save and next (Enter)");
  save.type = "submit";
  const skip = element("button", "", form, "Skip (Alt+↓)");
  skip.type = "button";
  const note = element("p", "omlx-review-note", el);
  note.setAttribute("role", "status");
  let focused = false;
  const view = () => {
    const item = model.get("item");
    const ended = !item || item.text === undefined;
    form.hidden = image.hidden = ended;
    head.textContent = ended ? "Nothing is left to look at." : `${item.number} of ${item.count} · ${item.source}`;
    note.textContent = model.get("note");
    if (ended) return;
    label.textContent = `${item.place || "answer"} · the model was ${Math.round(100 * item.sure)} % sure`;
    input.value = item.text;
    if (item.picture.startsWith("data:image/")) image.src = item.picture;
    image.alt = `${item.source}, where it says ${item.text}`;
    if (focused) input.focus();
  };
  const act = (kind) => {
    focused = true;
    model.send({ act: kind, number: model.get("item").number, text: input.value });
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    act("save");
  };
  skip.onclick = () => act("skip");
  input.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      act("save");
    } else if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      act(event.key === "ArrowDown" ? "skip" : "back");
    }
  };
  model.on("change:item", view);
  model.on("change:note", view);
  view();
  return () => {
    model.off("change:item", view);
    model.off("change:note", view);
  };
}

export default { render };
