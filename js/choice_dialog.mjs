/** A small modal dialog that asks for one of several, by keyboard or mouse. Texts are set as text. */

/**
 * @param questions [{name, legend, options: [{value, title, detail}]}]
 * @returns {name: value}, or null where it was cancelled
 */
export function ask(title, questions, doc = document) {
  const dialog = doc.createElement("dialog");
  dialog.className = "itk-ask";
  const style = doc.createElement("style");
  style.textContent = STYLE;
  const form = doc.createElement("form");
  form.method = "dialog";
  const heading = doc.createElement("h3");
  heading.textContent = title;
  heading.id = "itk-ask-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  form.append(heading, ...questions.map((question) => fieldset(doc, question)));
  const buttons = doc.createElement("div");
  buttons.className = "itk-ask-buttons";
  for (const [value, text] of [["ok", "Wrap"], ["cancel", "Cancel"]]) {
    const button = doc.createElement("button");
    button.value = value;
    button.textContent = text;
    buttons.append(button);
  }
  form.append(buttons);
  dialog.append(style, form);
  doc.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("keydown", (event) => event.stopPropagation());
    dialog.addEventListener("close", () => {
      const answers = dialog.returnValue === "ok" ? Object.fromEntries(questions.map(({ name }) => [name, new FormData(form).get(name)])) : null;
      dialog.remove();
      resolve(answers);
    });
    dialog.showModal();
  });
}

const STYLE = `
.itk-ask { pointer-events: auto; width: min(40rem, calc(100vw - 2rem)); max-height: 85vh; overflow: auto; box-sizing: border-box; padding: 16px 20px;
  font: 14px/1.45 system-ui, sans-serif; color: var(--fg-color, #ddd); background: var(--comfy-menu-bg, #222);
  border: 1px solid var(--border-color, #555); border-radius: 8px; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.itk-ask::backdrop { background: rgb(0 0 0 / .55); }
.itk-ask h3 { margin: 0 0 10px; font-size: 16px; }
.itk-ask fieldset { border: 1px solid var(--border-color, #555); border-radius: 6px; margin: 0 0 12px; padding: 6px 10px; min-width: 0; }
.itk-ask label { display: grid; grid-template-columns: auto 1fr; gap: 0 8px; padding: 5px 0; cursor: pointer; }
.itk-ask small { grid-column: 2; color: var(--descrip-text, #aaa); white-space: pre-wrap; max-height: 6em; overflow: hidden; }
.itk-ask-buttons { display: flex; gap: 8px; justify-content: flex-end; }
.itk-ask-buttons button { font: inherit; color: inherit; background: var(--comfy-input-bg, #333); border: 1px solid var(--border-color, #666);
  border-radius: 6px; padding: 5px 14px; cursor: pointer; }
.itk-ask-buttons button[value="ok"] { background: #1f5f9f; color: #fff; }
.itk-ask :focus-visible { outline: 2px solid #6cf; outline-offset: 1px; }
`;

function fieldset(doc, { name, legend, options }) {
  const set = doc.createElement("fieldset");
  const head = doc.createElement("legend");
  head.textContent = legend;
  set.append(head);
  options.forEach(({ value, title, detail }, at) => {
    const label = doc.createElement("label");
    const radio = doc.createElement("input");
    Object.assign(radio, { type: "radio", name, value, checked: at === 0 });
    const text = doc.createElement("span");
    text.textContent = title;
    const small = doc.createElement("small");
    small.textContent = detail.length > 300 ? `${detail.slice(0, 300)}…` : detail;
    label.append(radio, text, small);
    set.append(label);
  });
  return set;
}
