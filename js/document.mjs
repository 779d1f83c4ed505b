/**
 * The interleaved document: to look at beside the run, and to open, print and download. The server makes the files
 * (`GET /interleave_thinker/document`); what is shown here is drawn from the run.
 */
import { verdictOf } from "./run_state.mjs";
import { LONGEST, button, cut, element, imageElement } from "./elements.mjs";

const LAYOUTS = { story: "Story", guide: "Guide, numbered", comic: "Comic grid", slides: "Slides" };
const DOWNLOADS = [
  ["html", "HTML", "One page with the pictures inside, to mail or to put online."],
  ["zip", "ZIP", "Markdown and a page, with the pictures beside them as PNG."],
  ["docx", "Word", "A Word file. Needs python-docx on the server."],
  ["mp4", "Video", "A slideshow, with the texts as subtitles."],
];

/** The steps that are in the document now: {text, step, attempt}. */
function finishedSteps(run) {
  return run.steps
    .filter((step) => step.chosen || step.prompt === null)
    .map((step) => ({ text: step.text, step, attempt: step.attempts.find((a) => a.attempt === step.chosen) }));
}

/** Title and texts, without the pictures. */
export function toText(run) {
  return [titleOf(run), run.plan?.lead, ...finishedSteps(run).map(({ text }) => text)].filter(Boolean).join("\n\n");
}

/** "" where neither planner nor user wrote one and the server has not said what it makes of the request. */
export function titleOf(run) {
  return String(run.plan?.title || run.title || "");
}

/**
 * The parts of the view. `view.layout`, `view.details`, `view.workflow`: what the person chose for the files;
 * `view.unfolded`: steps whose attempts are shown.
 * `tools.imageUrl` as for the strip. `tools.open(asked)`, `tools.print(asked)` and `tools.download(asked)` get what is to
 * be made, {run, format, layout, details, workflow}; `tools.copy(text)`. What is not given is not offered.
 */
export function drawDocument(doc, run, view, tools, again = () => {}) {
  const finished = finishedSteps(run);
  if (!finished.length) return [element(doc, "p", "itk-facts", "No step is finished yet.")];
  const parts = [page(doc, run, finished, view, tools)];
  if (run.run) parts.unshift(choices(doc, view, again), actions(doc, run, view, tools));
  return parts;
}

function page(doc, run, finished, view, tools) {
  const box = element(doc, "article", "itk-page");
  const title = titleOf(run);
  if (title) box.append(autoDirected(element(doc, "h2", "itk-page-title", cut(title, LONGEST))));
  if (run.plan?.lead) box.append(autoDirected(element(doc, "p", "itk-text", cut(run.plan.lead, LONGEST))));
  for (const { text, step, attempt } of finished) {
    if (text) box.append(autoDirected(element(doc, "p", "itk-said", cut(text, LONGEST))));
    if (!attempt?.file) continue;
    const image = imageElement(doc, attempt, tools.imageUrl);
    image.className = "itk-large";
    box.append(image);
    if (!view.details) continue;
    if (step.accepted === false) box.append(element(doc, "p", "itk-facts", "not accepted by the critic"));
    if (step.attempts.length > 1) box.append(folded(doc, step, view, tools));
  }
  return box;
}

function autoDirected(node) {
  node.dir = "auto";
  return node;
}

function choices(doc, view, again) {
  const bar = element(doc, "div", "itk-tabs");
  const label = element(doc, "label", "itk-choice", "Layout ");
  const list = element(doc, "select");
  list.dataset.key = "layout";
  for (const [value, name] of Object.entries(LAYOUTS)) {
    const option = element(doc, "option", "", name);
    option.value = value;
    list.append(option);
  }
  list.value = view.layout ?? "story";
  list.addEventListener("change", () => {
    view.layout = list.value;
    again();
  });
  label.append(list);
  bar.append(label);
  bar.append(tick(doc, view, "details", "How it was made", "Attempts, prompts and verdicts go into the document.", again));
  bar.append(tick(doc, view, "workflow", "With the workflow", "The pictures of HTML and ZIP hold the workflow, for whoever gets them. Without it they hold pixels alone.", again));
  return bar;
}

function tick(doc, view, name, text, title, again) {
  const label = element(doc, "label", "itk-choice");
  const box = element(doc, "input");
  box.type = "checkbox";
  box.checked = Boolean(view[name]);
  box.dataset.key = name;
  box.addEventListener("change", () => {
    view[name] = box.checked;
    again();
  });
  label.append(box, doc.createTextNode(` ${text}`));
  label.title = title;
  return label;
}

function actions(doc, run, view, tools) {
  const bar = element(doc, "div", "itk-tabs");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Open or download the document");
  const asked = (format) => ({ run: run.run, format, layout: view.layout ?? "story", details: Boolean(view.details), workflow: Boolean(view.workflow) });
  const add = (label, title, act) => {
    const made = button(doc, label, act);
    made.title = title;
    bar.append(made);
  };
  if (tools.open) add("Open", "The page, in a new tab.", () => tools.open(asked("html")));
  if (tools.print) add("Print or PDF", "The browser prints the page; choose PDF as the printer to save one.", () => tools.print({ ...asked("html"), workflow: false }));
  if (tools.download) for (const [format, label, title] of DOWNLOADS) add(label, title, () => tools.download(asked(format)));
  if (tools.copy) add("Copy the text", "Title and texts, without the pictures.", () => tools.copy(toText(run)));
  return bar;
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
