/** Elements that the views and dialogs share. Texts are set as text, never as markup. */
import { imageLocation } from "./run_state.mjs";

/** Characters of one text of a model that are shown. */
export const LONGEST = 4000;

export function element(doc, kind, className, text) {
  const node = doc.createElement(kind);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** `address` turns an image's location into its URL; "" means that its small copy is not ready yet. */
export function imageElement(doc, attempt, address) {
  const image = doc.createElement("img");
  const source = address(imageLocation(attempt.file));
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
  const node = element(doc, "button", className, label);
  node.type = "button";
  node.dataset.key = label;
  node.addEventListener("click", act);
  return node;
}

/** A bar for what takes nobody knows how long. label: what is done. */
export function busyBar(doc, label) {
  const bar = element(doc, "div", "itk-bar itk-busy");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", label);
  bar.append(element(doc, "span"));
  return bar;
}

/** Replace the content of `root`. What has the focus has it afterwards, and the view stays where it was scrolled to. */
export function replaceKeepingFocus(root, parts) {
  const active = root.contains(root.ownerDocument.activeElement) ? root.ownerDocument.activeElement : null;
  const key = active?.dataset?.key;
  const selection = active && "selectionStart" in active ? [active.selectionStart, active.selectionEnd] : null;
  const scrolled = root.scrollTop;
  root.replaceChildren(...parts);
  root.scrollTop = scrolled;
  const again = key ? [...root.querySelectorAll("[data-key]")].find((found) => found.dataset.key === key) : null;
  again?.focus({ preventScroll: true });
  if (again && selection) again.setSelectionRange?.(...selection);
}
