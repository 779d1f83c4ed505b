import { test } from "node:test";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { checkMachine, drawCheck, emptyCheck, ended } from "../../js/doctor.mjs";
import { all, buttonOf, hasButton, newDocument } from "./dom.mjs";

const TABLE = JSON.parse(readFileSync(new URL("doctor_histories.json", import.meta.url), "utf-8"));
const GONE = { error: "It ended.", advice: "Take less." };
const stage = (kind, node, after = []) => ({ kind, label: `Doing ${kind}`, roles: [], prompt: { [node]: { class_type: "X" } }, result_node: node, after });
const STAGES = [stage("agent", "a"), stage("picture", "p"), stage("picture", "p")];
const SECTIONS = [{ title: "This machine", lines: ["one"] }, { title: "What to change", lines: ["<img src=x>"] }];
const ENDED = { status: { messages: [["execution_start", { timestamp: 1000 }], ["execution_success", { timestamp: 3500 }]] }, outputs: { a: { interleave_check: [{ name: "tiny" }] }, p: { interleave_picture: [{ width: 64 }] } } };

/**
 * A server that ends each prompt as `ends` says, in their order, with what was asked of it. An entry: of /history; null for one that runs
 * on; {refusal} for what /prompt refuses; "dies" or "restarts" for a server that ends while the prompt runs.
 */
function server(ends, { seconds = 180, queue = { queue_running: [], queue_pending: [] }, stages = STAGES } = {}) {
  const asked = [];
  const told = [];
  let clock = 0;
  let queued = 0;
  let dead = false;
  const tools = {
    asked,
    told,
    tell: (text) => told.push(text),
    stopped: () => false,
    now: () => clock,
    pause: async (ms) => {
      clock += ms;
    },
    ask: async (path, body) => {
      asked.push([path, body]);
      if (dead) throw new TypeError("Failed to fetch");
      if (path === "/queue" && !body) {
        const last = ends[queued - 1];
        return queued && !last ? { queue_running: [[0, `id${queued - 1}`]], queue_pending: [] } : queue;
      }
      if (path === "/system_stats") return { system: {} };
      if (path === "/interleave_thinker/doctor") return { stages, seconds, comfyui_ended: GONE, notes: ["n"], t_max: 3, has_agent: true };
      if (path === "/interleave_thinker/doctor_report") return { sections: SECTIONS };
      if (path === "/prompt") return ends[queued]?.refusal ?? { prompt_id: `id${queued++}`, node_errors: {} };
      if (path.startsWith("/history/")) {
        const id = path.slice("/history/".length);
        const entry = ends[Number(id.slice(2))];
        dead = entry === "dies";
        if (dead) throw new TypeError("Failed to fetch");
        return entry && entry !== "restarts" ? { [id]: entry } : {};
      }
      return {};
    },
  };
  return tools;
}

const reported = (tools) => tools.asked.find(([path]) => path.endsWith("doctor_report"))[1];

test("each stage is queued for its own target, and the report is of all results", async () => {
  const tools = server([ENDED, ENDED, ENDED]);
  assert.deepEqual(await checkMachine({ w: 1 }, 7, tools), SECTIONS);
  const prompts = tools.asked.filter(([path]) => path === "/prompt").map(([, body]) => body.partial_execution_targets);
  assert.deepEqual(prompts, [["a"], ["p"], ["p"]]);
  const { results, stages } = reported(tools);
  assert.deepEqual(results.map((r) => [r.kind, r.seconds, r.found]), [["agent", 2.5, { name: "tiny" }], ["picture", 2.5, { width: 64 }], ["picture", 2.5, { width: 64 }]]);
  assert.deepEqual(stages, { notes: ["n"], t_max: 3, has_agent: true });
  assert.ok(tools.told.includes("Doing agent (1 of 3)"));
});

test("what fails or is refused is reported with its reason, and not tried again", async () => {
  const failed = { status: { messages: [["execution_error", { node_id: "10", node_type: "UNETLoader", exception_message: "no room" }]] } };
  const tools = server([ENDED, failed]);
  await checkMachine({}, 7, tools);
  assert.deepEqual(reported(tools).results[1].error, "node 10 (UNETLoader): no room");
  assert.equal(reported(tools).results.length, 2);
  const refusal = { error: { message: "bad" }, node_errors: { 10: { errors: [] } } };
  const again = server([{ refusal }]);
  await checkMachine({}, 7, again);
  assert.deepEqual(reported(again).results.map((r) => r.refusal), [refusal, refusal], "the agent's and the picture's");
});

test("when the time is over, what runs is cancelled and the rest is named", async () => {
  const tools = server([ENDED, null], { seconds: 5 });
  await checkMachine({}, 7, tools);
  assert.deepEqual(reported(tools).results.map((r) => r.stopped ?? ""), ["", "time", "time"]);
  assert.deepEqual(tools.asked.filter(([path, body]) => path === "/interrupt" || (path === "/queue" && body)), [["/queue", { delete: ["id1"] }], ["/interrupt", { prompt_id: "id1" }]]);
});

test("a person who stops gets the report of what was done", async () => {
  const tools = server([ENDED, null]);
  tools.stopped = () => tools.told.some((text) => text.startsWith("Doing picture"));
  assert.deepEqual(await checkMachine({}, 7, tools), SECTIONS);
  assert.ok(tools.now() < 5000, "at once, not when the time is over");
  assert.deepEqual(reported(tools).results.map((r) => r.stopped ?? ""), ["", "person", "person"], "and not for want of time");
});

for (const { why, entry, result } of TABLE.histories) {
  test(`a history is read as the command line reads it: ${why}`, () => {
    const empty = { seconds: null, found: {}, error: "", stopped: "" };
    assert.deepEqual({ ...empty, ...ended(entry, "n") }, { ...empty, ...result });
  });
}

const FAILED = { status: { messages: [["execution_error", { node_id: "1", node_type: "X", exception_message: "no" }]] } };
const INTERRUPTED = { status: { messages: [["execution_interrupted", {}]] } };
const ENDS = { done: ENDED, error: FAILED, person: INTERRUPTED, time: null, server: "restarts" };

for (const { why, stages, ends, results } of TABLE.checks) {
  test(`stages follow one another as on the command line: ${why}`, async () => {
    const tools = server(ends.map((end) => ENDS[end]), { seconds: 5, stages: stages.map(([node, after]) => stage(node, node, after)) });
    await checkMachine({}, 7, tools);
    const outcome = (r) => (r.error === GONE.error ? "server" : r.error ? "error" : r.stopped === "server" ? "server_ended" : r.stopped || "done");
    assert.deepEqual(reported(tools).results.map(outcome), results);
  });
}

test("when ComfyUI dies in a stage, the person is told what was measured and what to do", async () => {
  const tools = server([ENDED, "dies"]);
  const told = await checkMachine({}, 7, tools);
  assert.deepEqual(told.map((section) => section.title), ["Measured before", "What to change"]);
  assert.deepEqual(told[0].lines, ["Doing agent: 2.5 s", "Doing picture: It ended."]);
  assert.deepEqual(told[1].lines, ["Take less."]);
});

test("a connection that fails once does not end the check", async () => {
  const tools = server([ENDED, ENDED, ENDED]);
  const ask = tools.ask;
  let failures = 0;
  tools.ask = async (path, body) => {
    if (path === "/history/id1" && failures++ < 2) throw new TypeError("Failed to fetch");
    return ask(path, body);
  };
  assert.deepEqual(await checkMachine({}, 7, tools), SECTIONS);
  assert.ok(reported(tools).results.every((result) => !result.error));
});

test("a busy server is not measured, and a refusal of the pack is the error", async () => {
  const busy = server([], { queue: { queue_running: [[]], queue_pending: [] } });
  await assert.rejects(checkMachine({}, 7, busy), /at work/);
  assert.equal(busy.asked.length, 1);
  const tools = server([]);
  const ask = tools.ask;
  tools.ask = (path, body) => (path.endsWith("/doctor") ? { error: "Too many nodes." } : ask(path, body));
  await assert.rejects(checkMachine({}, 7, tools), /Too many nodes/);
});

function drawn(check) {
  const root = newDocument().createElement("section");
  const calls = [];
  drawCheck(root, { ...emptyCheck(), ...check }, { stop: () => calls.push("stop"), close: () => calls.push("close"), copy: (text) => calls.push(text) });
  return { root, calls };
}

test("nothing is shown without a check, and a way to stop while it works", () => {
  assert.equal(drawn({}).root.hidden, true);
  const { root, calls } = drawn({ text: "Doing agent" });
  buttonOf(root, "Stop checking").fire("click");
  assert.deepEqual([root.hidden, calls], [false, ["stop"]]);
});

test("a report is drawn as text, can be copied as it is read, and closed", () => {
  const { root, calls } = drawn({ sections: SECTIONS });
  assert.deepEqual(all(root).filter((node) => node.tagName === "LI").map((node) => node.textContent), ["one", "<img src=x>"]);
  buttonOf(root, "Copy the report").fire("click");
  buttonOf(root, "Close the report").fire("click");
  assert.deepEqual(calls, ["This machine\n  one\n\nWhat to change\n  <img src=x>", "close"]);
});

test("an error is said, and there is no report to copy", () => {
  const { root } = drawn({ error: "gone" });
  assert.ok(root.textContent.includes("gone") && !hasButton(root, "Copy the report"));
});
