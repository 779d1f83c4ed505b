import { test } from "node:test";
import assert from "node:assert/strict";
import { changedWords, earlierAttempts, emptyRun, fromFiles, imageLocation, loadsOf, reduce, verdictOf, verdictsOf, withAccepted } from "../../js/run_state.mjs";

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

test("a model counts as loaded again where an earlier attempt had loaded it, live and from the saved files", () => {
  const loads = [["Clip", "Flux", "Flux"], null, [], ["Clip", "Vlm"], ["Vlm", "Flux"]];
  const live = told(plan, ...loads.map((names, i) => attempt(i + 1, { loads: names })));
  const lines = loads.map((names, i) => JSON.stringify({ step: 1, attempt: i + 1, loads: names }));
  for (const run of [live, fromFiles("tale", {}, lines)]) assert.deepEqual(loadsOf(run), { count: 7, again: 3 });
  assert.equal(loadsOf(told(plan, attempt(1))), null, "nothing was counted");
  assert.deepEqual(loadsOf(told(plan, attempt(1, { loads: ["Flux"] }), { ...judgment(1, true), loads: ["Flux", "Vlm"] })), { count: 2, again: 0 });
});

test("the accept rate of saved files is that of the events, and a run without a critic has none", () => {
  const critic = [[true, true, 1], [false, true, 1], [true, false, 0]].map(([accepted, parsed, strictness]) => ({ accepted, parsed, strictness }));
  const live = told(plan, ...critic.flatMap((said, i) => [attempt(i + 1), { ...judgment(i + 1), judgment: said }]));
  const saved = fromFiles("tale", {}, critic.map((said, i) => JSON.stringify({ step: 1, attempt: i + 1, judgment: said, judgment_key: "k" })));
  for (const run of [live, saved]) assert.deepEqual(verdictsOf(run), { accepted: 1, judged: 2, strictness: [1, 1] });
  const nobody = { step: 1, attempt: 1, judgment: { accepted: true, parsed: true, reasoning: "no critic is connected" }, judgment_key: "" };
  assert.equal(verdictsOf(fromFiles("tale", {}, [JSON.stringify(nobody)])), null);
});

test("loads that are no names are not counted, and the run is shown", () => {
  for (const loads of [5, "abc", { Flux: 1 }, [{ toString: 1 }], [["Flux"]], [null]]) {
    const run = fromFiles("tale", {}, [JSON.stringify({ step: 1, attempt: 1, loads })]);
    assert.equal(run.steps[0].attempts.length, 1);
    assert.equal(loadsOf(run), null);
  }
  const many = fromFiles("tale", {}, [JSON.stringify({ step: 1, attempt: 1, loads: Array(5000).fill("x".repeat(5000)) })]);
  assert.deepEqual(many.steps[0].attempts[0].loads, Array(100).fill("x".repeat(100)));
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
  assert.deepEqual(imageLocation("tale/attempts/x.png"), { filename: "x.png", subfolder: "interleave/tale/attempts", type: "output" });
  assert.equal(imageLocation("../../etc/passwd").filename, "passwd");
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

const line = (number, more = {}) => JSON.stringify({ step: 1, attempt: number, prompt: `p${number}`, seed: 1, reference_key: "ref", file: `attempts/step01_attempt${number}_aaaa000${number}.png`, judgment: { accepted: false, parsed: true, reasoning: "blue" }, ...more });

test("why a run stopped is known from its folder too", () => {
  const run = fromFiles("tale", { state: { reason: "Stopped after step 1." }, trajectory: { plan: PLAN, status: "stopped" } }, []);
  assert.deepEqual([run.status, run.reason], ["stopped", "Stopped after step 1."]);
});

test("what was tried before a change stays in view, from the same picture and each once", () => {
  const parent = fromFiles("tale", { trajectory: { plan: PLAN } }, [line(1), line(2), line(3, { reference_key: "another" })]);
  const grandparent = fromFiles("older", { trajectory: { plan: PLAN } }, [line(2), line(4)]);
  const run = { ...fromFiles("tale~2", { parent: "tale", trajectory: { plan: PLAN } }, [line(1)]), ancestors: [parent, grandparent] };
  assert.equal(run.parent, "tale");
  assert.deepEqual(earlierAttempts(run, run.steps[0]).map((a) => [a.run, a.attempt]), [["tale", 2], ["older", 4]]);
  assert.deepEqual(earlierAttempts(run, run.steps[1]), [], "a step without attempts has no picture to compare by");
  assert.deepEqual(earlierAttempts({ ...run, ancestors: undefined }, run.steps[0]), []);
});

test("an accepted attempt is the person's at once, and the critic's reasons stay", () => {
  const rejected = told(plan, attempt(1), judgment(1, false), attempt(2), judgment(2, false));
  const now = withAccepted(rejected, 1, 1);
  assert.deepEqual(now.steps[0].attempts.map(verdictOf), ["picked", "rejected"]);
  assert.deepEqual([now.steps[0].chosen, now.steps[0].attempts[0].judgment.reasoning], [1, "why"]);
  const queued = [{ ...plan, parent: "" }, attempt(1, { overridden: true }), { ...judgment(1, false), overridden: true }].reduce(reduce, now);
  assert.equal(verdictOf(queued.steps[0].attempts[0]), "picked");
  assert.equal(queued.steps[0].attempts[0].judgment.reasoning, "why");
});

test("a run of one of several users is named with the user's folder, and so is its parent", () => {
  const run = told({ ...plan, run: "@ann/tale" }, attempt(1, { file: "@ann/tale/attempts/a.png" }));
  assert.equal(run.run, "@ann/tale");
  assert.equal(fromFiles("@ann/tale~2", { parent: "tale" }, []).parent, "@ann/tale");
});
