/**
 * "Check this machine": queues what the server says would measure the open workflow, one prompt after the other, and draws
 * the report that the server makes of it (interleave_thinker/doctor). Texts are set as text, never as markup.
 */
import { CHECK_RESULT, PICTURE_RESULT } from "./contract.mjs";
import { busyBar, button, element, replaceKeepingFocus } from "./elements.mjs";

const PAUSE = 400; // ms between two looks at the history
const TRIES = 4; // of a question that ComfyUI does not answer, PAUSE apart

/**
 * Measure a workflow in API format. Resolves to the report's sections, [{title, lines}].
 * `tools.ask(path, body)` resolves to the answer's JSON ({} where there is none), GET without a body; `tools.tell(text)`
 * says what is being done; `tools.stopped()` says whether the person has enough; `tools.pause(ms)` waits; `tools.now()`
 * is a clock in ms. Throws an Error with a sentence for the person. `interleave_thinker/doctor/measure.py` runs the stages
 * in the same way; `tests/js/doctor_histories.json` says of both what must come out.
 */
export async function checkMachine(workflow, seed, tools) {
  tools.tell("Looking at the workflow");
  const queue = await tools.ask("/queue");
  const waiting = (queue.queue_running?.length ?? 0) + (queue.queue_pending?.length ?? 0);
  if (waiting) throw new Error("ComfyUI is at work, and the figures would be wrong. Check again when its queue is empty.");
  const stats = await tools.ask("/system_stats"); // ComfyUI may not be there any more at the end
  const asked = await answered(tools, "/interleave_thinker/doctor", { workflow, seed });
  const { stages, seconds, comfyui_ended: { error: gone, advice }, ...about } = asked;
  const endsAt = tools.now() + seconds * 1000;
  const results = [];
  const failed = new Set();
  const enough = () => (tools.stopped() ? "person" : tools.now() >= endsAt ? "time" : "");
  let why = "";
  for (const [number, stage] of stages.entries()) {
    const { kind, label, roles, result_node: node, after } = stage;
    if ([node, ...(after ?? [])].some((one) => failed.has(one))) continue;
    why ||= enough();
    if (!why) tools.tell(`${label} (${number + 1} of ${stages.length})`);
    const came = why ? { stopped: why } : await runStage(stage, enough, gone, tools);
    if (came.error || came.refusal || came.found?.error) failed.add(node);
    why = came.error === gone ? "server" : came.stopped || "";
    results.push({ kind, label, roles, ...came });
  }
  tools.tell("Writing the report");
  try {
    return (await answered(tools, "/interleave_thinker/doctor_report", { stages: about, results, stats })).sections;
  } catch (error) {
    if (!results.some((result) => result.error === gone)) throw error;
    return withoutServer(results, advice);
  }
}

/** What can be said when the server, which writes the reports, has ended. */
function withoutServer(results, advice) {
  const outcome = ({ error, refusal, stopped, seconds }) => {
    if (error || refusal) return error || "ComfyUI did not accept it.";
    if (stopped) return "not measured";
    return seconds === null ? "done" : `${seconds.toFixed(1)} s`;
  };
  return [
    { title: "Measured before", lines: results.map((result) => `${result.label}: ${outcome(result)}`) },
    { title: "What to change", lines: [advice] },
  ];
}

async function answered(tools, path, body) {
  const answer = await tools.ask(path, body);
  if (answer.error) throw new Error(answer.error);
  return answer;
}

/** One prompt from the queue to its end, by the server's history; the error `gone` where ComfyUI has ended. */
async function runStage(stage, enough, gone, tools) {
  try {
    return await followed(stage, enough, gone, tools);
  } catch {
    return { error: gone };
  }
}

async function followed({ prompt, result_node: node }, enough, gone, tools) {
  const begun = tools.now();
  const queued = await tools.ask("/prompt", { prompt, partial_execution_targets: [node] });
  const id = queued.prompt_id;
  if (!id || Object.keys(queued.node_errors ?? {}).length) return { refusal: queued };
  const look = async () => (await patiently(`/history/${id}`, tools))[id];
  for (;;) {
    const entry = await look();
    if (entry) return ended(entry, node);
    const why = enough();
    if (why) {
      await tools.ask("/queue", { delete: [id] });
      await tools.ask("/interrupt", { prompt_id: id });
      return { stopped: why, seconds: (tools.now() - begun) / 1000 };
    }
    if (!(await isQueued(id, tools))) {
      const last = await look(); // it may have ended between the two looks
      return last ? ended(last, node) : { error: gone }; // ComfyUI was started again
    }
    await tools.pause(PAUSE);
  }
}

async function isQueued(id, tools) {
  const queue = await patiently("/queue", tools);
  return [...(queue.queue_running ?? []), ...(queue.queue_pending ?? [])].some((entry) => entry[1] === id);
}

/** A question that is put again where the connection fails. */
async function patiently(path, tools) {
  for (let left = TRIES; ; left--) {
    try {
      return await tools.ask(path);
    } catch (error) {
      if (left <= 1) throw error;
      await tools.pause(PAUSE);
    }
  }
}

/** What came of a prompt, from its entry in ComfyUI's history and the node whose results are meant. */
export function ended(entry, node) {
  const said = Object.fromEntries(entry.status?.messages ?? []);
  if ("execution_error" in said) {
    const { node_id: id = "?", node_type: kind = "?", exception_message: text = "" } = said.execution_error ?? {};
    return { error: `node ${id} (${kind}): ${text.trim()}` };
  }
  const begun = said.execution_start?.timestamp;
  const over = said.execution_success?.timestamp || said.execution_interrupted?.timestamp;
  const seconds = begun && over ? (over - begun) / 1000 : null;
  if ("execution_interrupted" in said) return { stopped: "person", seconds };
  const shown = entry.outputs?.[node] ?? {};
  const found = (shown[CHECK_RESULT] ?? shown[PICTURE_RESULT])?.[0] ?? {};
  return { seconds, found };
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
    const line = element(doc, "p", "", `${check.text}…`);
    line.setAttribute("role", "status");
    parts.push(line, busyBar(doc, check.text), button(doc, "Stop checking", tools.stop));
  } else if (check.error || check.sections) {
    const line = element(doc, "div", "itk-tabs");
    if (check.sections) line.append(button(doc, "Copy the report", () => tools.copy(asText(check.sections))));
    line.append(button(doc, "Close the report", tools.close));
    parts.push(line);
    if (check.error) {
      const said = element(doc, "p", "itk-note-bad", check.error);
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
