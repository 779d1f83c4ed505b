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
  const style = element(doc, "style");
  style.textContent = STYLE;
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
  dialog.append(style, heading, list, bottom);
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
      field(doc, "What this step is to do, in words", card.instruction, 2, (value) => typed(at, { instruction: value })),
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

const STYLE = `
.itk-plan { pointer-events: auto; width: min(48rem, calc(100vw - 1.5rem)); max-height: 88vh; box-sizing: border-box; padding: 14px 18px; overflow: auto;
  font: 14px/1.45 system-ui, sans-serif; color: var(--fg-color, #ddd); background: var(--comfy-menu-bg, #222);
  border: 1px solid var(--border-color, #555); border-radius: 8px; }
.itk-plan::backdrop { background: rgb(0 0 0 / .55); }
.itk-plan h3 { margin: 0 0 8px; font-size: 16px; }
.itk-card { border: 1px solid var(--border-color, #555); border-radius: 6px; padding: 8px 10px; margin-bottom: 10px; }
.itk-card-head { display: flex; gap: 4px; align-items: center; }
.itk-card-head strong { flex: 1; }
.itk-field { display: block; margin-top: 6px; }
.itk-field span { display: block; color: var(--descrip-text, #bbb); font-size: 12px; }
.itk-plan textarea { width: 100%; box-sizing: border-box; font: inherit; color: inherit; background: var(--comfy-input-bg, #333);
  border: 1px solid var(--border-color, #666); border-radius: 4px; padding: 4px 6px; resize: vertical; }
.itk-plan textarea:disabled { opacity: .45; }
.itk-only { display: flex; gap: 6px; align-items: center; margin-top: 4px; font-size: 13px; }
.itk-plan summary { margin-top: 6px; font-size: 12px; color: var(--descrip-text, #bbb); cursor: pointer; }
.itk-plan button { font: inherit; color: inherit; background: var(--comfy-input-bg, #333); border: 1px solid var(--border-color, #666);
  border-radius: 5px; padding: 2px 9px; cursor: pointer; min-width: 30px; }
.itk-plan button:disabled { opacity: .4; cursor: default; }
.itk-plan .itk-main { background: #1f5f9f; color: #fff; }
.itk-plan-buttons { position: sticky; bottom: -14px; display: flex; flex-wrap: wrap; gap: 8px; align-items: center; padding: 8px 0;
  background: var(--comfy-menu-bg, #222); }
.itk-problem { flex: 1; min-width: 10rem; margin: 0; color: #ff9d7a; font-size: 13px; overflow-wrap: anywhere; }
.itk-plan :focus-visible { outline: 2px solid #6cf; outline-offset: 1px; }
`;
