/** Small pieces of the page. Texts are set as text, never as markup. */
import { pictureOf } from "./live.mjs";

/** Characters of one text of a model that are shown. */
export const LONGEST = 4000;

export function element(doc, kind, className, text) {
  const made = doc.createElement(kind);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** `address` of a place; while that is "", a small copy is still being made. */
export function picture(doc, attempt, address) {
  const image = doc.createElement("img");
  const source = address(pictureOf(attempt.file));
  if (source) image.src = source;
  image.alt = cut(attempt.prompt, 200);
  image.loading = "lazy";
  return image;
}

export function cut(text, length) {
  const whole = String(text ?? "");
  return whole.length > length ? `${whole.slice(0, length)}…` : whole;
}

export function button(doc, label, act, className = "itk-tab") {
  const made = element(doc, "button", className, label);
  made.type = "button";
  made.dataset.key = label;
  made.addEventListener("click", act);
  return made;
}

/** Draw anew without taking the keyboard from where the person is: what has the focus has it afterwards. */
export function redrawn(root, parts) {
  const active = root.contains(root.ownerDocument.activeElement) ? root.ownerDocument.activeElement : null;
  const key = active?.dataset?.key;
  const place = active && "selectionStart" in active ? [active.selectionStart, active.selectionEnd] : null;
  const scrolled = root.scrollTop;
  root.replaceChildren(...parts);
  root.scrollTop = scrolled;
  const again = key ? [...root.querySelectorAll("[data-key]")].find((found) => found.dataset.key === key) : null;
  again?.focus({ preventScroll: true });
  if (again && place) again.setSelectionRange?.(...place);
}
