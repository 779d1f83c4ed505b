/**
 * "Check this machine": queues what the server says would measure the open workflow, one prompt after the other, and draws
 * the report that the server makes of it (interleave_thinker/doctor). Texts are set as text, never as markup.
 */
import { CHECK_RESULT, PICTURE_RESULT } from "./contract.mjs";
import { button, element, replaceKeepingFocus } from "./elements.mjs";

const PAUSE = 400; // ms between two looks at the history

/**
 * Measure a workflow in API format. Resolves to the report's sections, [{title, lines}].
 * `tools.ask(path, body)` resolves to the answer's JSON ({} where there is none), GET without a body; `tools.tell(text)`
 * says what is being done; `tools.stopped()` says whether the person has enough; `tools.pause(ms)` waits; `tools.now()`
 * is a clock in ms. Throws an Error with a sentence for the person.
 */
export async function checkMachine(workflow, seed, tools) {
  tools.tell("Looking at the workflow");
  const queue = await tools.ask("/queue");
  const waiting = (queue.queue_running?.length ?? 0) + (queue.queue_pending?.length ?? 0);
  if (waiting) throw new Error("ComfyUI is at work, and the figures would be wrong. Check again when its queue is empty.");
  const { stages, seconds, ...about } = await answered(tools, "/interleave_thinker/doctor", { workflow, seed });
  const endsAt = tools.now() + seconds * 1000;
  const results = [];
  const failed = new Set();
  for (const [number, stage] of stages.entries()) {
    const { kind, label, roles, result, after } = stage;
    if ([result, ...(after ?? [])].some((node) => failed.has(node))) continue;
    const enough = () => tools.stopped() || tools.now() >= endsAt;
    if (!enough()) tools.tell(`${label} (${number + 1} of ${stages.length})`);
    const came = enough() ? { stopped: true } : await runStage(stage, enough, tools);
    if (came.error || came.refusal) failed.add(result);
    results.push({ kind, label, roles, ...came });
  }
  tools.tell("Writing the report");
  const stats = await tools.ask("/system_stats");
  return (await answered(tools, "/interleave_thinker/doctor_report", { stages: about, results, stats })).sections;
}

async function answered(tools, path, body) {
  const answer = await tools.ask(path, body);
  if (answer.error) throw new Error(answer.error);
  return answer;
}

/** One prompt from the queue to its end, by the server's history. */
async function runStage({ prompt, result }, enough, tools) {
  const begun = tools.now();
  const queued = await tools.ask("/prompt", { prompt, partial_execution_targets: [result] });
  const id = queued.prompt_id;
  if (!id || Object.keys(queued.node_errors ?? {}).length) return { refusal: queued };
  for (;;) {
    const entry = (await tools.ask(`/history/${id}`))[id];
    if (entry) return ended(entry, result);
    if (enough()) {
      await tools.ask("/queue", { delete: [id] });
      await tools.ask("/interrupt", { prompt_id: id });
      return { stopped: true, seconds: (tools.now() - begun) / 1000 };
    }
    await tools.pause(PAUSE);
  }
}

function ended(entry, result) {
  const said = Object.fromEntries(entry.status?.messages ?? []);
  const failure = said.execution_error;
  if (failure) return { error: `node ${failure.node_id} (${failure.node_type}): ${failure.exception_message}` };
  if (said.execution_interrupted) return { stopped: true };
  const [begun, over] = [said.execution_start?.timestamp, said.execution_success?.timestamp];
  const shown = entry.outputs?.[result] ?? {};
  const found = (shown[CHECK_RESULT] ?? shown[PICTURE_RESULT])?.[0] ?? {};
  return { seconds: begun && over ? (over - begun) / 1000 : null, found };
}

/** What is shown: `text` while it works, `error`, or the `sections` of a report. */
export function emptyCheck() {
  return { text: "", error: "", sections: null };
}

/** Draw a check into `root`; nothing where there is none. `tools.stop`, `tools.close` and `tools.copy(text)` are its buttons. */
export function drawCheck(root, check, tools) {
  const doc = root.ownerDocument;
  const parts = [];
  if (check.text) {
    const line = element(doc, "p", "itk-busy", `${check.text}…`);
    line.setAttribute("role", "status");
    parts.push(line, button(doc, "Stop checking", tools.stop));
  } else if (check.error || check.sections) {
    const line = element(doc, "div", "itk-tabs");
    if (check.sections) line.append(button(doc, "Copy the report", () => tools.copy(asText(check.sections))));
    line.append(button(doc, "Close the report", tools.close));
    parts.push(line);
    if (check.error) {
      const said = element(doc, "p", "itk-reason", check.error);
      said.setAttribute("role", "alert");
      parts.push(said);
    }
    for (const section of check.sections ?? []) parts.push(...drawSection(doc, section));
  }
  root.hidden = !parts.length;
  replaceKeepingFocus(root, parts);
}

function drawSection(doc, { title, lines }) {
  const list = element(doc, "ul", "itk-outline");
  for (const line of lines) list.append(element(doc, "li", "", line));
  return [element(doc, "h3", "itk-title", title), list];
}

function asText(sections) {
  return sections.map(({ title, lines }) => [title, ...lines.map((line) => `  ${line}`)].join("\n")).join("\n\n");
}
