// DOM in few words. Text is only ever set as text.
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  parent?: Element | null,
  text?: string,
  className?: string
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className) {
    made.className = className;
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  parent?.appendChild(made);
  return made;
}

export function button(parent: Element, text: string, label: string, act: () => void): HTMLButtonElement {
  const made = element('button', parent, text, 'omlx-button');
  made.type = 'button';
  made.setAttribute('aria-label', label);
  made.title = label;
  made.onclick = act;
  return made;
}
