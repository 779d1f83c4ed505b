import { test } from "node:test";
import assert from "node:assert/strict";
import { changedWords, emptyRun, fromFiles, pictureOf, reduce, verdictOf } from "../../js/live.mjs";

const PLAN = { execution_plan: [{ step_number: 1, prompt: "a red circle", auxiliary_text: "First." }, { step_number: 2, prompt: null, instruction: "Rest." }] };

function told(...events) {
  return events.reduce(reduce, emptyRun());
}

const plan = { event: "plan", node: "31", run: "tale", plan: PLAN };
const attempt = (n, more = {}) => ({ event: "attempt", node: "31", step: 1, attempt: n, t_max: 3, prompt: `try ${n}`, seed: n, seconds: 0.5, file: `tale/attempts/${n}.png`, ...more });
const judgment = (n, accepted) => ({ event: "judgment", node: "31", step: 1, attempt: n, judgment: { accepted, parsed: true, refined_prompt: "x", reasoning: "why" } });

test("a plan starts a run with its steps", () => {
  const run = told(plan);
  assert.deepEqual(run.steps.map((s) => [s.step, s.prompt, s.text]), [[1, "a red circle", "First."], [2, null, "Rest."]]);
  assert.equal(run.run, "tale");
});

test("attempts and judgments join their step in order", () => {
  const run = told(plan, attempt(1), judgment(1, false), attempt(2), judgment(2, true), { event: "chosen", step: 1, chosen: 2, accepted: true });
  assert.deepEqual(run.steps[0].attempts.map(verdictOf), ["rejected", "accepted"]);
  assert.equal(run.steps[0].chosen, 2);
  assert.deepEqual(run.current, [1, 2]);
  assert.equal(told(plan, attempt(1), { event: "done", status: "stopped", reason: "gate" }).reason, "gate");
});

test("an event that comes twice changes nothing more", () => {
  const once = told(plan, attempt(1), judgment(1, true));
  assert.deepEqual(reduce(reduce(once, attempt(1)), judgment(1, true)).steps, once.steps);
});

test("a tab that comes late still shows what it hears", () => {
  const run = told(attempt(2, { step: 4 }));
  assert.deepEqual(run.steps.map((s) => s.step), [4]);
  assert.equal(run.run, "tale");
});

test("a saved run reads back; a line cut off by a crash is passed over", () => {
  const lines = [JSON.stringify({ step: 1, attempt: 1, prompt: "p", seed: 3, file: "attempts/a.png", judgment: { accepted: false, parsed: false } }), '{"step": 1, "att'];
  const run = fromFiles("tale", { trajectory: { plan: PLAN, status: "done", results: [{ step: 1, chosen: 1, accepted: false }] } }, lines);
  assert.equal(verdictOf(run.steps[0].attempts[0]), "unread");
  assert.equal(run.steps[0].attempts[0].file, "tale/attempts/a.png");
  assert.equal(run.steps[0].accepted, false);
  assert.deepEqual(fromFiles("x", null, ["null", "7", ""]).steps, []);
});

test("words that the last prompt lacked are marked", () => {
  const marked = (a, b) => changedWords(a, b).filter((w) => w.isNew).map((w) => w.word);
  assert.deepEqual(marked("a crimson disc", "a red circle"), ["red", "circle"]);
  assert.deepEqual(marked("make it blue", "make it very blue now"), ["very", "now"]);
  assert.deepEqual(marked("same", "same"), []);
  assert.deepEqual(changedWords("", "").length, 0);
});

test("a hundred kilobytes of text do not stall the page", () => {
  const long = "word ".repeat(20_000);
  const begun = Date.now();
  assert.equal(changedWords(long, long).length, 20_000);
  assert.ok(Date.now() - begun < 2000);
});

test("a picture's place is below the interleave folder, whatever the event says", () => {
  assert.deepEqual(pictureOf("tale/attempts/x.png"), { filename: "x.png", subfolder: "interleave/tale/attempts", type: "output" });
  assert.equal(pictureOf("../../etc/passwd").filename, "passwd");
});

test("an interrupt or an error ends a run that goes on, and no other", () => {
  const going = told(plan, attempt(1));
  const ended = reduce(going, { event: "ended", status: "interrupted" });
  assert.deepEqual([ended.current, ended.status, ended.steps[0].attempts.length], [null, "interrupted", 1]);
  const done = told(plan, attempt(1), { event: "done", status: "done" });
  assert.equal(reduce(done, { event: "ended", status: "interrupted" }), done);
});

test("the plan itself is kept, for those who want to change it", () => {
  assert.deepEqual(told(plan).plan, PLAN);
  assert.deepEqual(fromFiles("tale", { trajectory: { plan: PLAN } }, []).plan, PLAN);
});
