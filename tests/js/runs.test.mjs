import { test } from "node:test";
import assert from "node:assert/strict";
import { createRuns } from "../../js/runs.mjs";
import { fromFiles } from "../../js/run_state.mjs";

const PLAN = { execution_plan: [{ step_number: 1, prompt: "one" }, { step_number: 2, prompt: "two" }] };
const plan = (workflow, run, node = "31") => ({ event: "plan", node, workflow, run, plan: PLAN, prompt_id: `p-${run}` });
const attempt = (workflow, run, node = "31") => ({ event: "attempt", node, workflow, step: 1, attempt: 1, file: `${run}/attempts/a.png`, prompt: "one" });

test("two workflows whose nodes have the same number do not mix", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "a"));
  runs.addEvent(plan("B", "b"));
  assert.equal(runs.of("A", "31").run, "a");
  assert.equal(runs.of("B", "31").run, "b");
  assert.equal(runs.of("C", "31").run, "");
  assert.equal(runs.shown("A").run, "a", "the sidebar is about the workflow that is open");
});

test("a run of another workflow that is read from its folder does not take the sidebar", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "a"));
  runs.addSaved({ ...fromFiles("b", { trajectory: { plan: PLAN } }, []), node: "31", workflow: "B" });
  assert.equal(runs.shown("A").run, "a");
  assert.equal(runs.of("B", "31").run, "b");
});

test("a run that the API queued is shown, and belongs to no node here", () => {
  const runs = createRuns();
  runs.addEvent(plan("", "api"));
  assert.equal(runs.shown("A").run, "api");
  assert.equal(runs.shown("A").workflow, "");
  assert.equal(runs.of("A", "31").run, "");
});

test("a saved run that was picked stays until the person goes back", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "live"));
  runs.pick({ ...fromFiles("old", { trajectory: { plan: PLAN, status: "done" } }, []), node: "" });
  runs.addEvent(attempt("A", "live"));
  assert.equal(runs.shown("A").run, "old");
  runs.pick(null);
  assert.equal(runs.shown("A").run, "live");
  assert.equal(runs.shown("A").steps[0].attempts.length, 1);
});

test("an end ends what runs, and knows its queued prompt before", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "a"));
  assert.equal(runs.shown("A").prompt, "p-a");
  runs.end("interrupted");
  assert.equal(runs.of("A", "31").status, "interrupted");
  runs.setAgentText("late words");
  assert.equal(runs.shown("A").agentText, "");
});

const line = (step, at, accepted, more = {}) => JSON.stringify({ step, attempt: at, file: "attempts/x.png", prompt: "x", judgment: accepted === null ? null : { parsed: true, accepted }, ...more });

test("a run that was interrupted reads back with the steps that it had finished", () => {
  const state = { trajectory: { plan: PLAN, status: "running", results: [] } };
  const run = fromFiles("r", state, [line(1, 1, false), line(1, 2, true), line(2, 1, false)]);
  assert.deepEqual(run.steps.map((s) => [s.chosen, s.accepted]), [[2, true], [0, true]]);
  const exhausted = fromFiles("r", state, [line(1, 1, false), line(1, 2, null), line(2, 1, false)]);
  assert.deepEqual([exhausted.steps[0].chosen, exhausted.steps[0].accepted], [2, false]);
});

test("attempts of earlier passes in the same folder are left out of a run that ended", () => {
  const own = { step: 1, attempt: 1, file: "attempts/x.png", prompt: "x", judgment: null };
  const state = { trajectory: { plan: PLAN, status: "done", attempts: [own], results: [{ step: 1, chosen: 1, accepted: true }] } };
  const run = fromFiles("r", state, [line(1, 1, false), line(1, 2, false), line(1, 3, true), line(7, 1, true)]);
  assert.deepEqual(run.steps.map((s) => s.attempts.length), [1, 0]);
});

test("a run of which only the end was heard is still to be read from its folder", () => {
  const runs = createRuns();
  runs.addEvent({ event: "done", node: "31", workflow: "A", status: "stopped" });
  assert.equal(runs.has("A", "31"), false, "its steps came before this page was there");
  runs.addSaved({ ...fromFiles("a", { trajectory: { plan: PLAN, status: "stopped" } }, []), node: "31", workflow: "A" });
  assert.equal(runs.has("A", "31"), true);
  assert.equal(runs.shown("A").status, "stopped");
});

test("a run that was heard of before its workflow was open is shown once it is", () => {
  const runs = createRuns();
  runs.addSaved({ ...fromFiles("a", { trajectory: { plan: PLAN, status: "running" } }, []), node: "31", workflow: "A" });
  runs.addEvent({ event: "done", node: "31", workflow: "A", status: "stopped" });
  assert.equal(runs.shown("").run, "", "a page that is being loaded has an empty workflow");
  assert.equal(runs.shown("A").run, "a");
  assert.equal(runs.shown("A").status, "stopped");
});

test("only what still runs is to be asked for when nothing runs any more", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "a"));
  runs.addEvent(plan("B", "b"));
  runs.addEvent({ event: "done", node: "31", workflow: "B", status: "done" });
  assert.deepEqual(runs.busy().map((run) => run.run), ["a"]);
  runs.end("interrupted");
  assert.deepEqual([runs.busy(), runs.of("B", "31").status], [[], "done"]);
});

test("the run stays in sight when a workflow without runs is opened, so that its own can be opened again", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "a"));
  assert.equal(runs.shown("A").run, "a");
  assert.equal(runs.shown("C").run, "a");
  runs.addEvent(plan("C", "c"));
  assert.equal(runs.shown("C").run, "c");
});

test("a picked run that goes on is shown as it is now, and its end is its own", () => {
  const runs = createRuns();
  runs.addEvent(plan("B", "b"));
  runs.pick({ ...fromFiles("b", { trajectory: { plan: PLAN, status: "running" }, origin: { workflow: "B" } }, []), node: "" });
  runs.addEvent(attempt("B", "b"));
  assert.equal(runs.shown("A").steps[0].attempts.length, 1);
  runs.addEvent({ event: "done", node: "31", workflow: "B", status: "done" });
  runs.end("interrupted");
  assert.equal(runs.shown("A").status, "done");
});

test("reading a folder again does not make its run the last one", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "first", "31"));
  runs.addEvent(plan("A", "second", "40"));
  runs.addSaved({ ...fromFiles("first", { trajectory: { plan: PLAN, status: "stopped" } }, []), node: "31", workflow: "A" });
  assert.equal(runs.shown("A").run, "second");
});

test("steps that were heard of without their plan are still to be read from the folder", () => {
  const runs = createRuns();
  runs.addEvent(attempt("A", "a"));
  assert.equal(runs.has("A", "31"), false);
});

test("of two loops of a workflow the sidebar shows the one with the newest event", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "first", "31"));
  runs.addEvent(plan("A", "second", "40"));
  runs.addEvent(attempt("A", "first", "31"));
  assert.equal(runs.shown("A").run, "first");
});

test("what the critic wrote goes when its judgment is there: the judgment says it better", () => {
  const runs = createRuns();
  runs.addEvent(attempt("A", "a"));
  runs.setAgentText("I look at the circle");
  assert.equal(runs.of("A", "31").agentText, "I look at the circle");
  runs.addEvent({ event: "judgment", node: "31", workflow: "A", step: 1, attempt: 1, judgment: { accepted: true, parsed: true } });
  assert.equal(runs.of("A", "31").agentText, "");
});

test("events that come after ComfyUI ended their prompt do not make its run go on", () => {
  const runs = createRuns();
  runs.addEvent(plan("A", "a"));
  runs.end("failed", "node 16 broke", "p-a");
  runs.addEvent({ ...attempt("A", "a"), prompt_id: "p-a" });
  runs.addEvent({ event: "trying", node: "31", workflow: "A", step: 2, attempt: 1, prompt_id: "p-a" });
  const run = runs.of("A", "31");
  assert.deepEqual([run.status, run.reason, run.current], ["failed", "node 16 broke", null]);
  assert.equal(run.steps[0].attempts.length, 1, "what they tell is kept");
  runs.end("interrupted");
  assert.equal(runs.of("A", "31").status, "failed", "the first end counts");
  runs.addEvent({ ...plan("A", "a2"), prompt_id: "p-2" });
  assert.equal(runs.of("A", "31").status, "running", "another prompt is not ended");
});

test("a prompt whose run is heard of only after its end does not go on either", () => {
  const runs = createRuns();
  runs.end("failed", "broke", "p-a");
  runs.addEvent(plan("A", "a"));
  assert.equal(runs.of("A", "31").status, "failed");
  runs.addEvent({ event: "done", node: "31", workflow: "A", status: "done", prompt_id: "p-a" });
  assert.equal(runs.of("A", "31").status, "done", "a run says its own end best");
});
