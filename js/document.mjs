/** The interleaved document as a page: text and pictures in order, the attempts folded away behind each picture. */
import { imageLocation, verdictOf } from "./run_state.mjs";
import { LONGEST, button, cut, element, imageElement } from "./elements.mjs";

/** The finished steps as Markdown: texts in order, pictures by file name. */
export function toMarkdown(run) {
  const lines = [];
  for (const { text, attempt } of finishedSteps(run)) {
    if (text) lines.push(text.replace(/([\\`*_{}[\]()#+!|<>~-])/g, "\\$1"), "");
    if (attempt) lines.push(`![](attempts/${imageLocation(attempt.file).filename})`, "");
  }
  return lines.join("\n");
}

function finishedSteps(run) {
  return run.steps
    .filter((step) => step.chosen || step.prompt === null)
    .map((step) => ({ text: step.text, step, attempt: step.attempts.find((a) => a.attempt === step.chosen) }));
}


/** The parts of the page. view.unfolded: steps whose attempts are shown. tools: imageUrl, copy(text), print(element). */
export function drawDocument(doc, run, view, tools) {
  const page = element(doc, "article", "itk-page");
  for (const { text, step, attempt } of finishedSteps(run)) {
    if (text) page.append(element(doc, "p", "itk-said", cut(text, LONGEST)));
    if (!attempt?.file) continue;
    const image = imageElement(doc, attempt, tools.imageUrl);
    image.className = "itk-large";
    page.append(image);
    if (step.accepted === false) page.append(element(doc, "p", "itk-facts", "not accepted by the critic"));
    if (step.attempts.length > 1) page.append(folded(doc, step, view, tools));
  }
  if (!page.children.length) return [element(doc, "p", "itk-facts", "No step is finished yet.")];
  const parts = [page];
  const bar = element(doc, "div", "itk-tabs");
  if (tools.copy) bar.append(button(doc, "Copy as Markdown", () => tools.copy(toMarkdown(run))));
  if (tools.print) bar.append(button(doc, "Print", () => tools.print(page)));
  if (run.run) {
    const folder = `output/interleave/${run.run}`;
    if (tools.copy) bar.append(button(doc, "Copy the folder's path", () => tools.copy(folder)));
    parts.push(element(doc, "p", "itk-facts itk-path", folder));
  }
  return [...parts, bar];
}

function folded(doc, step, view, tools) {
  view.unfolded ??= new Set();
  const box = element(doc, "details", "itk-folded");
  box.open = view.unfolded.has(step.step);
  box.addEventListener("toggle", () => view.unfolded[box.open ? "add" : "delete"](step.step));
  box.append(element(doc, "summary", "", `${step.attempts.length} attempts`));
  const row = element(doc, "div", "itk-row");
  for (const attempt of step.attempts) {
    const image = imageElement(doc, attempt, tools.thumbUrl ?? tools.imageUrl);
    image.className = `itk-thumb itk-${verdictOf(attempt) || "plain"}`;
    image.title = `attempt ${attempt.attempt}: ${cut(attempt.prompt, 300)}`;
    row.append(image);
  }
  box.append(row);
  return box;
}
