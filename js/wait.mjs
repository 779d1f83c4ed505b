/**
 * The time between a click on Run and the first event of a loop: the prompt waits in ComfyUI's queue, models are loaded,
 * the planner writes. Pure: gets ComfyUI's messages as values.
 */
import { NODE_IDS, WRITING } from "./contract.mjs";

/** {task, words} of a text that an agent streams, as the nodes send it; null for any other text of a node. */
export function writtenBy(text) {
  const [first, ...rest] = String(text).split("\n");
  if (!WRITING.includes(first.split(" ")[0])) return null;
  return { task: first, words: rest.join("\n").replace(/<\/?(think|answer)>/g, "").trim() };
}

/**
 * The prompts of ComfyUI's queue (the answer of /queue) that a person of this editor may wait for, the running one
 * first: {prompt, workflow, nodes: kind by id, loads: ids above a planner that will be asked, running}.
 */
export function waitsOf(queue) {
  const lists = [[queue?.queue_running, true], [queue?.queue_pending, false]];
  return lists.flatMap(([list, running]) => (Array.isArray(list) ? list : []).map((entry) => waitOf(entry, running))).filter((wait) => wait);
}

/** The wait for a prompt that had failed before the queue showed it. */
export function failedAtOnce(prompt, workflow, error) {
  return { prompt, workflow, nodes: {}, loads: new Set(), running: true, at: "", planned: 0, task: "", words: "", error };
}

/** The wait for a prompt that a button has just sent, of which ComfyUI has told nothing yet. */
export function justSent(workflow) {
  return { ...failedAtOnce("", workflow, ""), running: false };
}

function waitOf([, prompt, graph, extra], running) {
  const workflow = String(extra?.extra_pnginfo?.workflow?.id ?? "");
  const nodes = Object.fromEntries(Object.entries(graph ?? {}).map(([id, node]) => [id, String(node?.class_type ?? "")]));
  const ours = Object.values(nodes).some((kind) => kind === NODE_IDS.loop_close || kind === NODE_IDS.planner);
  if (!workflow || !ours) return null;
  return { prompt: String(prompt), workflow, nodes, loads: asked(graph), running, at: "", planned: 0, task: "", words: "", error: "" };
}

/** The planners of a graph that ask their agent, and the nodes above these. */
function asked(graph) {
  const waiting = Object.keys(graph).filter((id) => graph[id]?.class_type === NODE_IDS.planner && !String(graph[id].inputs?.edited_plan ?? "").trim());
  const found = new Set();
  while (waiting.length) {
    const id = waiting.pop();
    if (found.has(id) || !graph[id]) continue;
    found.add(id);
    for (const value of Object.values(graph[id].inputs ?? {})) if (Array.isArray(value)) waiting.push(String(value[0]));
  }
  return found;
}

/** A wait after ComfyUI began a node. */
export function atNode(wait, id) {
  return { ...wait, at: id };
}

/** A wait after a node streamed a text. */
export function withText(wait, id, text) {
  const written = wait.nodes[id] === NODE_IDS.planner ? writtenBy(text) : null;
  return written ? { ...wait, at: id, ...written } : wait;
}

/** A wait after its Planner has a plan of `steps` steps. */
export function withPlan(wait, steps) {
  return { ...wait, planned: steps, words: "" };
}

/** What is being waited for, in words. */
export function waitWords(wait) {
  if (wait.error) return "failed";
  if (!wait.prompt) return "Starting…";
  if (!wait.running) return "Waiting for ComfyUI to finish other work…";
  if (wait.planned) return `Planned ${wait.planned === 1 ? "1 step" : `${wait.planned} steps`}. Starting…`;
  const step = /.*"step_number":\s*(\d{1,4})/s.exec(wait.words)?.[1];
  if (wait.words || (!wait.at && wait.loads.size)) return step ? `Planning… step ${step}` : "Planning…";
  return wait.loads.has(wait.at) ? "Loading the model…" : "Starting…";
}
