/**
 * A small stand-in for the browser's DOM: only what js/ uses to draw. It holds elements, texts and attributes.
 * It cannot read markup: whoever sets innerHTML or the like gets an error.
 */

class Text {
  constructor(text) {
    this.textContent = String(text);
  }
}

class Element {
  constructor(doc, kind) {
    this.ownerDocument = doc;
    this.tagName = kind.toUpperCase();
    this.parent = null;
    this.childNodes = [];
    this.className = "";
    this.dataset = {};
    this.style = {};
    this.attributes = {};
    this.listeners = {};
    this.value = "";
    this.scrollTop = 0;
  }

  get children() {
    return this.childNodes.filter((node) => node instanceof Element);
  }

  get textContent() {
    return this.childNodes.map((node) => node.textContent).join("");
  }

  set textContent(text) {
    this.replaceChildren(new Text(text));
  }

  get classes() {
    return this.className.split(" ").filter(Boolean);
  }

  append(...nodes) {
    for (const node of nodes) {
      const child = typeof node === "string" ? new Text(node) : node;
      child.parent = this;
      this.childNodes.push(child);
    }
  }

  replaceChildren(...nodes) {
    if (this.contains(this.ownerDocument.activeElement)) this.ownerDocument.activeElement = this.ownerDocument.body;
    for (const child of this.childNodes) child.parent = null;
    this.childNodes = [];
    this.append(...nodes);
  }

  setAttribute(name, value) {
    this.attributes[name] = String(value);
  }

  getAttribute(name) {
    return this.attributes[name] ?? null;
  }

  addEventListener(kind, listener) {
    (this.listeners[kind] ??= []).push(listener);
  }

  /** What an event of the page would start. */
  fire(kind, event = {}) {
    for (const listener of this.listeners[kind] ?? []) listener(event);
  }

  contains(other) {
    for (let node = other; node; node = node.parent) if (node === this) return true;
    return false;
  }

  focus() {
    this.ownerDocument.activeElement = this;
  }

  /** Only the one selector that js/ uses. */
  querySelectorAll(selector) {
    if (selector !== "[data-key]") throw new Error(`This stand-in does not know ${selector}.`);
    return all(this).filter((element) => "key" in element.dataset);
  }
}

for (const name of ["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc"]) {
  Object.defineProperty(Element.prototype, name, {
    set: () => {
      throw new Error(`${name} was set: the page must set texts as text.`);
    },
    get: () => () => {
      throw new Error(`${name} was used: the page must set texts as text.`);
    },
  });
}

export function newDocument() {
  const doc = { createElement: (kind) => new Element(doc, kind), createTextNode: (text) => new Text(text) };
  doc.body = doc.createElement("body");
  doc.activeElement = doc.body;
  return doc;
}

/** All elements below one, in the order of the page. */
export function all(root) {
  return root.children.flatMap((child) => [child, ...all(child)]);
}

export function byClass(root, name) {
  return all(root).filter((element) => element.classes.includes(name));
}

/** The button with this text; an error where there is none. */
export function buttonOf(root, text) {
  const found = all(root).find((element) => element.tagName === "BUTTON" && element.textContent === text);
  if (!found) throw new Error(`There is no button "${text}".`);
  return found;
}

export function hasButton(root, text) {
  return all(root).some((element) => element.tagName === "BUTTON" && element.textContent === text);
}
