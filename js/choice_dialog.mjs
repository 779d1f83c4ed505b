/** A small modal dialog that asks for one of several, by keyboard or mouse. Texts are set as text. */

/**
 * @param questions [{name, legend, options: [{value, title, detail}]}]
 * @returns {name: value}, or null where it was cancelled
 */
export function ask(title, questions, doc = document) {
  const dialog = doc.createElement("dialog");
  dialog.className = "itk-ask";
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
  dialog.append(form);
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
