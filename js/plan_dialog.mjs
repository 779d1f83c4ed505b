/** The plan editor: a modal dialog with a card for each step. Texts are set as values, never as markup. */
import { button, element } from "./elements.mjs";
import { changed, emptyCard, firstNumber, inserted, moved, removed, toCards, toText } from "./plan.mjs";

const WAIT = 250; // ms after the last key before the plan is checked

/**
 * @param plan as the pack writes it, or null
 * @param check async (text) => an error, or "" where the plan can be run
 * @returns the plan's text, or null where it was cancelled
 */
export function editPlan(plan, check, doc = document) {
  const first = firstNumber(plan);
  let current = toCards(plan);
  if (!current.length) current = [emptyCard()];
  const dialog = element(doc, "dialog", "itk-plan");
  const heading = element(doc, "h3", "", "Plan");
  heading.id = "itk-plan-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  const list = element(doc, "div", "itk-cards");
  const problem = element(doc, "p", "itk-problem");
  problem.setAttribute("role", "alert");
  const save = button(doc, "Use this plan", async () => (await validate()) && close("save"), "itk-main");
  const bottom = element(doc, "div", "itk-plan-buttons");
  const add = button(doc, "Add a step", () => change(inserted(current, current.length), current.length));
  bottom.append(add, problem, save, button(doc, "Cancel", () => close("")));
  dialog.append(heading, list, bottom);
  doc.body.append(dialog);

  let waiting = 0;
  let asked = 0;
  async function validate() {
    const mine = ++asked;
    const error = await check(toText(current, plan));
    if (mine !== asked) return false;
    problem.textContent = error;
    save.disabled = Boolean(error);
    return !error;
  }

  /** Cards that were moved, added or taken away are drawn anew; typing only changes the list. */
  function change(next, focus) {
    current = next;
    draw();
    list.children[Math.max(0, Math.min(focus, list.children.length - 1))]?.querySelector("textarea:enabled")?.focus();
    validate();
  }

  function typed(at, what) {
    current = changed(current, at, what);
    clearTimeout(waiting);
    waiting = setTimeout(validate, WAIT);
  }

  function draw() {
    list.replaceChildren(...current.map((card, at) => drawCard(card, at)));
  }

  function drawCard(card, at) {
    const box = element(doc, "section", "itk-card");
    box.setAttribute("aria-label", `Step ${first + at}`);
    const head = element(doc, "div", "itk-card-head");
    head.append(element(doc, "strong", "", `Step ${first + at}`));
    const tools = [
      ["↑", "Move up", () => change(moved(current, at, -1), at - 1), at === 0],
      ["↓", "Move down", () => change(moved(current, at, 1), at + 1), at === current.length - 1],
      ["+", "Add a step before this one", () => change(inserted(current, at), at), false],
      ["✕", "Delete this step", () => change(removed(current, at), at), current.length === 1],
    ];
    for (const [sign, label, act, off] of tools) {
      const tool = button(doc, sign, act);
      tool.setAttribute("aria-label", `${label} (step ${first + at})`);
      tool.title = label;
      tool.disabled = off;
      head.append(tool);
    }
    const prompt = field(doc, "Prompt for the generator", card.prompt, 2, (value) => typed(at, { prompt: value }));
    const area = prompt.querySelector("textarea");
    area.disabled = card.textOnly;
    const only = element(doc, "label", "itk-only");
    const tick = element(doc, "input");
    tick.type = "checkbox";
    tick.checked = card.textOnly;
    tick.addEventListener("change", () => {
      area.disabled = tick.checked;
      typed(at, { textOnly: tick.checked });
    });
    only.append(tick, doc.createTextNode("Text only, no picture"));
    const more = element(doc, "details");
    more.append(
      element(doc, "summary", "", "Instruction for the critic"),
      field(doc, "Goal of this step", card.instruction, 2, (value) => typed(at, { instruction: value })),
    );
    box.append(head, prompt, only, field(doc, "Text beside the picture", card.text, 2, (value) => typed(at, { text: value })), more);
    return box;
  }

  function close(how) {
    dialog.close(how);
  }

  draw();
  validate();
  return new Promise((resolve) => {
    dialog.addEventListener("keydown", (event) => event.stopPropagation());
    dialog.addEventListener("close", () => {
      clearTimeout(waiting);
      dialog.remove();
      resolve(dialog.returnValue === "save" ? toText(current, plan) : null);
    });
    dialog.showModal();
  });
}

function field(doc, label, value, rows, typed) {
  const box = element(doc, "label", "itk-field");
  const area = element(doc, "textarea");
  area.rows = rows;
  area.value = value;
  area.dir = "auto";
  area.addEventListener("input", () => typed(area.value));
  box.append(element(doc, "span", "", label), area);
  return box;
}
