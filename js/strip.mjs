/**
 * A loop as a strip of attempts for each step: pictures, verdicts, and the chosen attempt's details.
 * Texts of models are set as text, never as markup. Knows nothing of ComfyUI but how a picture is addressed.
 */
import { changedWords, pictureOf, verdictOf } from "./live.mjs";

const SAID = {
  accepted: "accepted",
  rejected: "rejected",
  unread: "the critic's reply could not be read",
  picked: "accepted by you",
  "": "not judged",
};
const LONGEST = 4000;

/**
 * Draw `run` into `root`. `view` keeps what the person chose to see ("open": an attempt, "page": the document).
 * `tools.pictureUrl` turns a place into an address; `tools.accept(run, step, attempt)`, where there is one,
 * takes an attempt against the critic and goes on.
 */
export function drawRun(root, run, view, tools) {
  const doc = root.ownerDocument;
  const again = () => drawRun(root, run, view, tools);
  const parts = [header(doc, run)];
  if (run.steps.length) parts.push(tabs(doc, view, again));
  if (view.page) parts.push(...drawDocument(doc, run, tools));
  else for (const step of run.steps) parts.push(drawStep(doc, run, step, view, tools, again));
  if (run.reason) parts.push(element(doc, "p", "itk-reason", run.reason));
  root.replaceChildren(...parts);
}

/** The finished steps as Markdown: texts in order, pictures by file name. */
export function toMarkdown(run) {
  const lines = [];
  for (const { text, attempt } of finishedSteps(run)) {
    if (text) lines.push(text.replace(/([\\`*_{}[\]()#+!|<>~-])/g, "\\$1"), "");
    if (attempt) lines.push(`![](attempts/${pictureOf(attempt.file).filename})`, "");
  }
  return lines.join("\n");
}

function finishedSteps(run) {
  return run.steps
    .filter((step) => step.chosen || step.prompt === null)
    .map((step) => ({ text: step.text, step, attempt: step.attempts.find((a) => a.attempt === step.chosen) }));
}

function tabs(doc, view, again) {
  const bar = element(doc, "div", "itk-tabs");
  for (const [page, label] of [[false, "Attempts"], [true, "Document"]]) {
    const button = element(doc, "button", "itk-tab", label);
    button.type = "button";
    button.setAttribute("aria-pressed", String(Boolean(view.page) === page));
    button.addEventListener("click", () => {
      view.page = page;
      again();
    });
    bar.append(button);
  }
  return bar;
}

function drawDocument(doc, run, tools) {
  const parts = [];
  for (const { text, step, attempt } of finishedSteps(run)) {
    if (text) parts.push(element(doc, "p", "itk-said", cut(text, LONGEST)));
    if (!attempt?.file) continue;
    const image = picture(doc, attempt, tools.pictureUrl);
    image.className = "itk-large";
    parts.push(image);
    if (step.accepted === false) parts.push(element(doc, "p", "itk-facts", "not accepted by the critic"));
  }
  if (!parts.length) return [element(doc, "p", "itk-facts", "No step is finished yet.")];
  if (tools.copy) {
    const button = element(doc, "button", "itk-tab", "Copy as Markdown");
    button.type = "button";
    button.addEventListener("click", () => tools.copy(toMarkdown(run)));
    parts.push(button);
  }
  return parts;
}

function header(doc, run) {
  const at = run.current ? `step ${run.current[0]} of ${run.steps.length}, attempt ${run.current[1]}${run.tMax ? ` of ${run.tMax}` : ""}` : "";
  const state = at || (run.steps.length ? ({ done: "finished", stopped: "stopped", running: "planned" }[run.status] ?? run.status) : "no run yet");
  const line = element(doc, "div", "itk-head");
  line.append(element(doc, "strong", "", run.run || "Interleave"), element(doc, "span", "itk-state", state));
  line.setAttribute("role", "status");
  return line;
}

function drawStep(doc, run, step, view, tools, again) {
  const box = element(doc, "section", "itk-step");
  const busy = run.current?.[0] === step.step;
  box.append(element(doc, "div", "itk-title", `${step.number}. ${cut(step.prompt || step.text || "(text only)", 200)}`));
  if (step.text && step.prompt) box.append(element(doc, "div", "itk-text", cut(step.text, 300)));
  const row = element(doc, "div", "itk-row");
  for (const attempt of step.attempts) {
    row.append(thumbnail(doc, run, step, attempt, view, tools.pictureUrl, again));
  }
  if (busy && !step.attempts.some((a) => a.attempt === run.current[1])) {
    const waiting = element(doc, "div", "itk-thumb itk-busy itk-empty", "…");
    waiting.title = `attempt ${run.current[1]} is being made`;
    row.append(waiting);
  }
  if (row.children.length) box.append(row);
  if (busy && run.speech) box.append(element(doc, "pre", "itk-speech", cut(run.speech, 600)));
  const shown = step.attempts.find((a) => view.open === `${step.step}.${a.attempt}`);
  if (shown) box.append(details(doc, run, step, shown, tools));
  return box;
}

function thumbnail(doc, run, step, attempt, view, pictureUrl, again) {
  const verdict = verdictOf(attempt);
  const key = `${step.step}.${attempt.attempt}`;
  const busy = run.current && run.current[0] === step.step && run.current[1] === attempt.attempt && !verdict;
  const button = element(doc, "button", `itk-thumb itk-${verdict || "plain"}${busy ? " itk-busy" : ""}`);
  button.type = "button";
  button.setAttribute("aria-pressed", String(view.open === key));
  button.setAttribute("aria-label", `Step ${step.number}, attempt ${attempt.attempt}: ${SAID[verdict]}`);
  button.title = `attempt ${attempt.attempt}: ${SAID[verdict]}`;
  if (attempt.file) button.append(picture(doc, attempt, pictureUrl));
  if (step.chosen === attempt.attempt) button.append(element(doc, "span", "itk-chosen", "✓"));
  button.addEventListener("click", () => {
    view.open = view.open === key ? "" : key;
    again();
  });
  return button;
}

function details(doc, run, step, attempt, tools) {
  const box = element(doc, "div", "itk-details");
  const verdict = verdictOf(attempt);
  const before = step.attempts.find((a) => a.attempt === attempt.attempt - 1)?.prompt ?? step.prompt ?? attempt.prompt;
  const prompt = element(doc, "p", "itk-prompt");
  for (const { word, isNew } of changedWords(before, cut(attempt.prompt, LONGEST))) {
    prompt.append(isNew ? element(doc, "mark", "", word) : doc.createTextNode(word), doc.createTextNode(" "));
  }
  const facts = [`seed ${attempt.seed ?? "?"}`, attempt.recalled ? "recalled" : `${Number(attempt.seconds ?? 0).toFixed(2)} s`];
  box.append(prompt, element(doc, "p", "itk-facts", `${SAID[verdict]} · ${facts.join(" · ")}`));
  if (attempt.judgment?.reasoning) box.append(element(doc, "p", "itk-why", cut(attempt.judgment.reasoning, LONGEST)));
  if (attempt.judgment && !attempt.judgment.accepted && attempt.judgment.refined_prompt) {
    box.append(element(doc, "p", "itk-next", `Next prompt: ${cut(attempt.judgment.refined_prompt, LONGEST)}`));
  }
  if (tools.accept && run.node && verdict !== "accepted" && verdict !== "picked") {
    const button = element(doc, "button", "itk-tab", "Accept this attempt and go on");
    button.type = "button";
    button.addEventListener("click", () => tools.accept(run, step.step, attempt.attempt));
    box.append(button);
  }
  if (attempt.file) {
    const large = picture(doc, attempt, tools.pictureUrl);
    large.className = "itk-large";
    box.append(large);
  }
  return box;
}

function picture(doc, attempt, pictureUrl) {
  const image = doc.createElement("img");
  image.src = pictureUrl(pictureOf(attempt.file));
  image.alt = cut(attempt.prompt, 200);
  image.loading = "lazy";
  return image;
}

function element(doc, kind, className, text) {
  const made = doc.createElement(kind);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function cut(text, length) {
  const whole = String(text ?? "");
  return whole.length > length ? `${whole.slice(0, length)}…` : whole;
}

export const STYLE = `
.itk { font: 12px/1.4 system-ui, sans-serif; color: var(--fg-color, #ddd); background: var(--comfy-input-bg, #222);
  height: 100%; min-height: 0; overflow: auto; padding: 6px 8px; box-sizing: border-box; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.itk-head { display: flex; gap: 8px; justify-content: space-between; margin-bottom: 4px; }
.itk-state, .itk-facts, .itk-text { color: var(--descrip-text, #aaa); }
.itk-state { white-space: nowrap; }
.itk-step { border-top: 1px solid var(--border-color, #444); padding: 5px 0; }
.itk-title { font-weight: 600; }
.itk-row { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 4px; }
.itk-thumb { position: relative; width: 68px; height: 68px; padding: 0; border: 3px solid #777; border-radius: 6px; overflow: hidden;
  background: var(--comfy-menu-bg, #333); color: inherit; cursor: pointer; }
.itk-thumb img { width: 100%; height: 100%; object-fit: cover; display: block; }
.itk-thumb:focus-visible { outline: 2px solid #6cf; outline-offset: 1px; }
.itk-accepted, .itk-picked { border-color: #3fa45b; }
.itk-rejected { border-color: #d9822b; border-style: dashed; }
.itk-unread { border-color: #c0392b; border-style: dotted; }
.itk-empty { display: flex; align-items: center; justify-content: center; }
.itk-busy { animation: itk-pulse 1.2s ease-in-out infinite; }
@keyframes itk-pulse { 50% { opacity: .45; } }
@media (prefers-reduced-motion: reduce) { .itk-busy { animation: none; opacity: .7; } }
.itk-chosen { position: absolute; right: 2px; bottom: 0; color: #fff; background: #1f7a3d; border-radius: 4px; padding: 0 4px; }
.itk-details { margin-top: 5px; }
.itk-details p { margin: 3px 0; white-space: pre-wrap; }
.itk-details mark { background: #6b4d00; color: #fff; border-radius: 2px; }
.itk-large { width: 100%; max-width: 24rem; border-radius: 6px; }
.itk-speech { max-height: 8em; overflow: auto; white-space: pre-wrap; margin: 4px 0 0; font-size: 11px; color: var(--descrip-text, #aaa); }
.itk-reason { color: #e0a050; }
.itk-tabs { display: flex; gap: 4px; margin-bottom: 4px; }
.itk-tab { font: inherit; color: inherit; background: var(--comfy-menu-bg, #333); border: 1px solid var(--border-color, #555);
  border-radius: 5px; padding: 2px 8px; cursor: pointer; }
.itk-tab[aria-pressed="true"] { background: #2f6fb0; color: #fff; }
.itk-tab:focus-visible { outline: 2px solid #6cf; }
.itk-said { white-space: pre-wrap; margin: 8px 0 4px; font-size: 13px; }
.itk-outline { margin: 4px 0 0; padding: 0; list-style: none; }
.itk-outline li { padding: 1px 0; border-top: 1px solid var(--border-color, #444); }
.itk-runs { display: flex; gap: 6px; margin-bottom: 6px; }
.itk-runs select { flex: 1; min-width: 0; }
`;
