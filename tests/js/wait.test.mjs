import { test } from "node:test";
import assert from "node:assert/strict";
import { atNode, failedAtOnce, justSent, waitWords, waitsOf, withPlan, withText, writtenBy } from "../../js/wait.mjs";

const planner = (inputs = {}) => ({ class_type: "InterleaveThinkerPlanner", inputs: { agent: ["2", 0], ...inputs } });
const GRAPH = {
  1: planner(),
  2: { class_type: "InterleaveThinkerAgentFromCLIP", inputs: { clip: ["57:3", 0] } },
  "57:3": { class_type: "CLIPLoader", inputs: { clip_name: "a" } },
  4: { class_type: "VAELoader", inputs: {} },
  9: { class_type: "InterleaveThinkerLoopClose", inputs: { loop: ["1", 0], image: ["4", 0] } },
};
const entry = (graph, id = "p", workflow = "W") => [0, id, graph, { extra_pnginfo: { workflow: { id: workflow } } }, []];
const running = (graph) => waitsOf({ queue_running: [entry(graph)] })[0];

test("only prompts of an editor's workflow that plans or loops are waited for, the running one first", () => {
  const queue = { queue_pending: [entry(GRAPH, "b"), entry({ 4: GRAPH[4] }, "c")], queue_running: [entry(GRAPH, "a", "V")] };
  assert.deepEqual(waitsOf(queue).map(({ prompt, workflow, running: now }) => [prompt, workflow, now]), [["a", "V", true], ["b", "W", false]]);
  assert.deepEqual(waitsOf({ queue_running: [[0, "api", GRAPH, {}]] }), [], "an API client watches its own");
  for (const odd of [null, {}, { queue_running: 5 }, { queue_running: [[]] }, { queue_running: [[0, 1, { 1: null }, { extra_pnginfo: null }]] }]) assert.deepEqual(waitsOf(odd), []);
});

test("what is waited for is said: the queue, the model, the plan, the loop", () => {
  assert.equal(waitWords(waitsOf({ queue_pending: [entry(GRAPH)] })[0]), "Waiting for ComfyUI to finish other work…");
  const begun = running(GRAPH);
  assert.equal(waitWords(begun), "Planning…", "a second tab hears of no node");
  for (const id of ["57:3", "2", "1"]) assert.equal(waitWords(atNode(begun, id)), "Loading the model…");
  assert.equal(waitWords(atNode(begun, "4")), "Starting…");
  const writes = withText(atNode(begun, "1"), "1", 'Planning\n<think>A boat.</think>{"step_number": 1}, {"step_number": 2,');
  assert.deepEqual([waitWords(writes), writes.words], ["Planning… step 2", 'A boat.{"step_number": 1}, {"step_number": 2,']);
  assert.equal(waitWords(withPlan(writes, 1)), "Planned 1 step. Starting…");
  assert.equal(waitWords(withPlan(writes, 3)), "Planned 3 steps. Starting…");
});

test("a plan that a person wrote is waited for without a word of a model", () => {
  const begun = running({ ...GRAPH, 1: planner({ edited_plan: "1. a boat" }) });
  for (const wait of [begun, atNode(begun, "1")]) assert.equal(waitWords(wait), "Starting…");
});

test("a prompt that was just sent begins, whatever ComfyUI tells first", () => {
  const sent = justSent("W");
  assert.deepEqual([sent.workflow, sent.error, waitWords(sent), waitWords(atNode(sent, "1"))], ["W", "", "Starting…", "Starting…"]);
});

test("a graph that leads in a circle is followed once", () => {
  assert.equal(waitWords(running({ 1: planner({ agent: ["1", 0] }) })), "Planning…");
});

test("of the texts of nodes only those of an agent are its words, and a wait takes only its planner's", () => {
  assert.deepEqual(writtenBy("Comparing the attempts of step 2\n<answer>3</answer>"), { task: "Comparing the attempts of step 2", words: "3" });
  for (const text of ["Step 1/3, attempt 1/4", "rejected. Next: Judging\nx", "", undefined]) assert.equal(writtenBy(text), null);
  const begun = running(GRAPH);
  assert.equal(withText(begun, "9", "Planning\nx"), begun);
  assert.equal(withText(begun, "1", "3 steps planned"), begun);
});

test("what failed before the queue showed it has failed, and nothing else is said of it", () => {
  const wait = failedAtOnce("p", "w", "There is no endpoints file.");
  assert.deepEqual([waitWords(wait), wait.error, wait.prompt, wait.workflow], ["failed", "There is no endpoints file.", "p", "w"]);
});
