/**
 * A loop as a strip of attempts for each step: pictures, verdicts, and the chosen attempt's details.
 * Texts of models are set as text, never as markup. Knows nothing of ComfyUI but how a picture is addressed.
 */
import { drawDocument } from "./document.mjs";
import { changedWords, earlierAttempts, loadsOf, verdictOf, verdictsOf } from "./run_state.mjs";
import { LONGEST, busyBar, button, cut, element, imageElement, replaceKeepingFocus } from "./elements.mjs";
import { partsOf, secondsLeft, timeLeft } from "./progress.mjs";
import { waitWords, writtenBy } from "./wait.mjs";
import { inSentences } from "./tiny_thoughts.mjs";

const VERDICT_TEXT = {
  accepted: "accepted",
  rejected: "rejected",
  unread: "the critic's reply could not be read",
  picked: "accepted by you",
  "": "not judged",
};

/** The button that queues a run that stopped again. */
export const CONTINUE = "Continue";
const LATEST = 600; // characters of what an agent writes

/**
 * Draw `run` into `root`. `view` keeps what the person chose to see: "open", an attempt; "base", one to compare it
 * with; "page", the document; "draft", a prompt that is being written.
 * `tools.imageUrl` turns an image's location into its URL, `tools.thumbUrl` into the URL of a small copy; `tools.controls(run)`
 * gives [label, act] of what can be done with the run now; `tools.accept(run, step, attempt)` takes an attempt against
 * the critic and goes on; `tools.retry(run, step, prompt)` tries a step again with a person's prompt.
 */
export function drawRun(root, run, view, tools) {
  const doc = root.ownerDocument;
  const again = () => drawRun(root, run, view, tools);
  const controls = tools.controls?.(run) ?? [];
  const parts = [banner(doc, run, controls), header(doc, run), progress(doc, run), wait(doc, run)].filter((part) => part);
  const verdicts = verdictsOf(run);
  if (verdicts) parts.push(acceptRate(doc, verdicts));
  if (controls.length) parts.push(toolbar(doc, controls));
  for (const warning of run.warnings) parts.push(element(doc, "p", "itk-reason", cut(warning, LONGEST)));
  if (run.steps.length) parts.push(tabs(doc, view, again));
  const pair = [view.base, view.open].map((key) => find(run, key));
  if (!view.page && pair[0]) parts.push(comparison(doc, pair, view, tools, again));
  if (view.page) parts.push(...drawDocument(doc, run, view, tools, again));
  else for (const step of run.steps) parts.push(drawStep(doc, run, step, view, tools, again));
  const loads = loadsOf(run);
  if (!view.page && loads?.count) parts.push(loadsLine(doc, loads));
  replaceKeepingFocus(root, parts);
}

/** How often models were loaded. Loads of the same kind of model again mean, as a rule, that not all fit into memory at once. */
function loadsLine(doc, { count, again }) {
  const line = element(doc, "p", "itk-facts", `Models loaded: ${count}×${again ? `, ${again} of these again` : ""}`);
  line.title = again
    ? "A model of the same kind was loaded before. As a rule it had left memory for another one: `interleave-thinker vram` says what fits at once."
    : "No model had to be loaded again.";
  return line;
}

/** Why nothing goes on, and what to press; null where something does or all is done. */
function banner(doc, run, controls) {
  const [text, kind] = run.waiting ? [run.waiting.error, "itk-failed"] : whyOver(run);
  if (!text) return null;
  const box = element(doc, "div", `itk-banner ${kind}`);
  box.setAttribute("role", "alert");
  const next = run.waiting ? "Run" : controls.some(([label]) => label === CONTINUE) ? CONTINUE : "";
  const first = kind === "itk-failed" ? "Mend that, then press" : "Press";
  box.append(element(doc, "p", "itk-reason", cut(text, LONGEST)));
  if (next) box.append(element(doc, "p", "itk-hint", `${first} ${next}. What is finished is kept.`));
  return box;
}

function whyOver(run) {
  if (run.status === "failed") return [run.reason || "ComfyUI reported an error.", "itk-failed"];
  if (run.status === "interrupted") return ["This run was interrupted.", "itk-stopped"];
  return [run.status === "stopped" ? run.reason || "This run was stopped." : "", "itk-stopped"];
}

/** A segment for each step that gets a picture, filled as far as its attempts are, and the time left once that is known. */
function progress(doc, run) {
  const parts = run.waiting ? [] : partsOf(run);
  const isBusy = run.current || run.status === "running";
  if (!isBusy || !parts.length) return null;
  const left = timeLeft(secondsLeft(run));
  const box = element(doc, "div", "itk-progress");
  const bar = element(doc, "div", "itk-bar");
  const percent = Math.round((100 * parts.reduce((sum, part) => sum + part, 0)) / parts.length);
  const facts = { role: "progressbar", "aria-label": "Progress of the run", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent };
  for (const [name, value] of Object.entries(facts)) bar.setAttribute(name, String(value));
  bar.setAttribute("aria-valuetext", [`${percent}%`, left].filter(Boolean).join(", "));
  for (const part of parts) {
    const fill = element(doc, "i");
    fill.style.width = `${Math.round(100 * part)}%`;
    const segment = element(doc, "span");
    segment.append(fill);
    bar.append(segment);
  }
  box.append(bar);
  if (left) box.append(element(doc, "span", "itk-facts", left));
  return box;
}

/** What happens before the loop begins: the bar moves without an end, the planner's words come below it. */
function wait(doc, run) {
  if (!run.waiting || run.waiting.error) return null;
  const box = element(doc, "div", "itk-waiting");
  box.append(busyBar(doc, waitWords(run.waiting)));
  if (run.waiting.words) box.append(speech(doc, run.waiting.words));
  return box;
}

/** The latest words of an agent. */
function speech(doc, words) {
  const box = element(doc, "div", "itk-speech");
  const last = words.slice(-LATEST);
  box.append(element(doc, "div", "", last.length < words.length ? `…${last}` : last));
  return box;
}

function tabs(doc, view, again) {
  const bar = element(doc, "div", "itk-tabs");
  for (const [page, label] of [[false, "Attempts"], [true, "Document"]]) {
    const tab = button(doc, label, () => {
      view.page = page;
      again();
    });
    tab.setAttribute("aria-pressed", String(Boolean(view.page) === page));
    bar.append(tab);
  }
  return bar;
}

function toolbar(doc, controls) {
  const line = element(doc, "div", "itk-tabs");
  line.setAttribute("role", "toolbar");
  line.setAttribute("aria-label", "What to do with this run");
  for (const [label, act] of controls) line.append(button(doc, label, act));
  return line;
}

/** {step, attempt} of a key (`keyOf`), or null. */
function find(run, key) {
  for (const step of run.steps) {
    for (const attempt of [...step.attempts, ...earlierAttempts(run, step)]) if (keyOf(step, attempt) === key) return { step, attempt };
  }
  return null;
}

/** Two attempts side by side, the words marked in which the second differs. */
function comparison(doc, [base, open], view, tools, again) {
  const box = element(doc, "section", "itk-step");
  box.setAttribute("aria-label", "Comparison of two attempts");
  box.append(button(doc, "Close comparison", () => {
    view.base = "";
    again();
  }));
  if (!open || open.attempt === base.attempt) {
    box.append(element(doc, "p", "itk-facts", "Choose the attempt to compare with."));
    return box;
  }
  const row = element(doc, "div", "itk-pair");
  for (const [{ step, attempt }, other] of [[base, null], [open, base]]) {
    const side = element(doc, "figure", "itk-side-by-side");
    const large = imageElement(doc, attempt, tools.imageUrl);
    large.className = "itk-large";
    side.append(element(doc, "figcaption", "itk-title", `Step ${step.number}, attempt ${attempt.attempt}: ${VERDICT_TEXT[verdictOf(attempt)]}`), large);
    side.append(marked(doc, other ? other.attempt.prompt : attempt.prompt, attempt.prompt));
    if (attempt.judgment?.reasoning) side.append(why(doc, attempt.judgment.reasoning));
    row.append(side);
  }
  box.append(row);
  return box;
}

/** The critic's reasons. The tiny critic's shorthand becomes a sentence; what it wrote is the sentence's title. */
function why(doc, reasoning) {
  const said = cut(reasoning, LONGEST);
  const line = element(doc, "p", "itk-why", inSentences(said));
  if (line.textContent !== said) line.title = said;
  return line;
}

/** A prompt with the words marked that the one before lacks. */
function marked(doc, before, after) {
  const prompt = element(doc, "p", "itk-prompt");
  for (const { word, isNew } of changedWords(before, cut(after, LONGEST))) {
    prompt.append(isNew ? element(doc, "mark", "", word) : doc.createTextNode(word), doc.createTextNode(" "));
  }
  return prompt;
}

function header(doc, run) {
  const at = run.waiting ? waitWords(run.waiting) : run.current ? `step ${run.current[0]} of ${run.steps.length}, attempt ${run.current[1]}${run.tMax ? ` of ${run.tMax}` : ""}` : "";
  const state = at || (run.steps.length ? ({ done: "finished", stopped: "stopped", running: "planned", interrupted: "interrupted; what is finished is kept", failed: "failed; what is finished is kept" }[run.status] ?? run.status) : "no run yet; press Run to begin one");
  const line = element(doc, "div", "itk-head");
  const name = element(doc, "strong", "", cut(run.plan?.request || run.run || "Interleave", 80));
  name.title = run.run;
  line.append(name, element(doc, "span", "itk-state", state));
  line.setAttribute("role", "status");
  return line;
}

/** How often the critic accepted so far, and by how much its verdicts were shifted where they were. */
function acceptRate(doc, { accepted, judged, strictness: [least, most] }) {
  const shift = least === most ? `strictness ${least}` : `strictness ${least} to ${most}`;
  const rate = element(doc, "div", "itk-rate", `accepted ${accepted} of ${judged}${least || most ? ` · ${shift}` : ""}`);
  rate.title = "The critic's own verdicts in this run; what a person accepted does not count as its acceptance. Critic-Refine's strictness makes it stricter or more lenient.";
  return rate;
}

function drawStep(doc, run, step, view, tools, again) {
  const box = element(doc, "section", "itk-step");
  const busy = !run.waiting && run.current?.[0] === step.step;
  box.append(element(doc, "div", "itk-title", `${step.number}. ${cut(step.prompt || step.text || "(text only)", 200)}`));
  if (step.text && step.prompt) box.append(element(doc, "div", "itk-text", cut(step.text, 300)));
  const row = element(doc, "div", "itk-row");
  for (const attempt of step.attempts) {
    row.append(thumbnail(doc, run, step, attempt, view, tools.thumbUrl ?? tools.imageUrl, again));
  }
  if (busy && !step.attempts.some((a) => a.attempt === run.current[1])) {
    const waiting = element(doc, "div", "itk-thumb itk-busy itk-empty", "…");
    waiting.title = `attempt ${run.current[1]} is being made`;
    row.append(waiting);
  }
  if (row.children.length) box.append(row);
  const earlier = earlierAttempts(run, step);
  if (earlier.length) box.append(earlierRow(doc, run, step, earlier, view, tools, again));
  if (busy) box.append(...atWork(doc, run, step));
  const shown = [...step.attempts, ...earlier].find((a) => view.open === keyOf(step, a));
  if (shown) box.append(details(doc, run, step, shown, view, tools, again));
  return box;
}

/** What the critic is at: as it says itself, or, before its first word, as the picture that waits for a verdict shows. */
function atWork(doc, run, step) {
  const written = writtenBy(run.agentText);
  const made = step.attempts.find((attempt) => attempt.attempt === run.current[1]);
  const task = written?.task || (made && !verdictOf(made) ? "Judging" : "");
  const parts = task ? [element(doc, "div", "itk-task", `${task}…`)] : [];
  return written?.words ? [...parts, speech(doc, written.words)] : parts;
}

/** What was tried for the step before its plan, critic or T_max changed: to look at, and to take a prompt from. */
function earlierRow(doc, run, step, earlier, view, tools, again) {
  const box = element(doc, "div", "itk-earlier");
  box.append(element(doc, "span", "itk-facts", "Tried before the change:"));
  const row = element(doc, "div", "itk-row");
  for (const attempt of earlier) row.append(thumbnail(doc, run, step, attempt, view, tools.thumbUrl ?? tools.imageUrl, again));
  box.append(row);
  return box;
}

/** What names an attempt of the view; one of an earlier run has its run in front. */
function keyOf(step, attempt) {
  return `${attempt.run ? `${attempt.run}/` : ""}${step.step}.${attempt.attempt}`;
}

function thumbnail(doc, run, step, attempt, view, imageUrl, again) {
  const verdict = verdictOf(attempt);
  const key = keyOf(step, attempt);
  const busy = !attempt.run && run.current && run.current[0] === step.step && run.current[1] === attempt.attempt && !verdict;
  const toggle = () => {
    view.open = view.open === key ? "" : key;
    again();
  };
  const thumb = button(doc, "", toggle, `itk-thumb itk-${verdict || "plain"}${busy ? " itk-busy" : ""}`);
  thumb.dataset.key = key;
  thumb.setAttribute("aria-pressed", String(view.open === key));
  const earlier = attempt.run ? "earlier " : "";
  thumb.setAttribute("aria-label", `Step ${step.number}, ${earlier}attempt ${attempt.attempt}: ${VERDICT_TEXT[verdict]}`);
  thumb.title = `${earlier}attempt ${attempt.attempt}: ${VERDICT_TEXT[verdict]}${attempt.run ? ` (${attempt.run})` : ""}`;
  if (attempt.file) thumb.append(imageElement(doc, attempt, imageUrl));
  if (!attempt.run && step.chosen === attempt.attempt) thumb.append(element(doc, "span", "itk-chosen", "✓"));
  return thumb;
}

function details(doc, run, step, attempt, view, tools, again) {
  const box = element(doc, "div", "itk-details");
  const verdict = verdictOf(attempt);
  const before = step.attempts.find((a) => a.attempt === attempt.attempt - 1)?.prompt ?? step.prompt ?? attempt.prompt;
  const facts = [`seed ${attempt.seed ?? "?"}`, attempt.recalled ? "from cache" : `${Number(attempt.seconds ?? 0).toFixed(2)} s`];
  const odds = attempt.judgment?.log_odds;
  if (Number.isFinite(odds)) facts.push(`log-odds of its verdict ${odds.toFixed(1)}${attempt.judgment.strictness ? `, strictness ${Number(attempt.judgment.strictness)}` : ""}`);
  if (attempt.loads?.length) facts.push(`loaded: ${attempt.loads.join(", ")}`);
  box.append(marked(doc, before, attempt.prompt), element(doc, "p", "itk-facts", `${VERDICT_TEXT[verdict]} · ${facts.join(" · ")}`));
  if (attempt.judgment?.reasoning) box.append(why(doc, attempt.judgment.reasoning));
  if (attempt.judgment?.note) box.append(element(doc, "p", "itk-facts", `The critic's reply: ${cut(attempt.judgment.note, LONGEST)}`));
  if (attempt.judgment && !attempt.judgment.accepted && attempt.judgment.refined_prompt) {
    box.append(element(doc, "p", "itk-next", `Next prompt: ${cut(attempt.judgment.refined_prompt, LONGEST)}`));
  }
  const can = element(doc, "div", "itk-tabs");
  if (tools.accept && run.node && !attempt.run && verdict !== "accepted" && verdict !== "picked") {
    can.append(button(doc, "Accept this attempt and continue", () => tools.accept(run, step.step, attempt.attempt)));
  }
  can.append(button(doc, "Compare with another", () => {
    view.base = keyOf(step, attempt);
    again();
  }));
  box.append(can);
  if (tools.retry && run.node) box.append(ownPrompt(doc, run, step, attempt, view, tools));
  if (attempt.file) {
    const large = imageElement(doc, attempt, tools.imageUrl);
    large.className = "itk-large";
    box.append(large);
  }
  return box;
}

/** A field for a person's own prompt; what is typed outlives the redraws of a run that goes on. */
function ownPrompt(doc, run, step, attempt, view, tools) {
  const key = `${run.workflow}/${run.node}/${run.run}/${keyOf(step, attempt)}`;
  const box = element(doc, "div", "itk-own");
  const area = element(doc, "textarea");
  area.rows = 2;
  area.dir = "auto";
  area.setAttribute("aria-label", `Your own prompt for step ${step.number}`);
  area.dataset.key = `prompt ${key}`;
  area.value = view.draft?.key === key ? view.draft.text : attempt.judgment?.refined_prompt || attempt.prompt;
  area.addEventListener("input", () => {
    view.draft = { key, text: area.value };
  });
  area.addEventListener("keydown", (event) => event.stopPropagation());
  box.append(area, button(doc, "Retry with this prompt", () => tools.retry(run, step.step, area.value)));
  return box;
}
