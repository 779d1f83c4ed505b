/** Events as a Python session sends them (tests/unit/test_session.py writes and checks events.json), read by the page. */
import { readFileSync } from "node:fs";
import { test } from "node:test";
import assert from "node:assert/strict";
import { EVENTS } from "../../js/contract.mjs";
import { emptyRun, reduce, verdictOf } from "../../js/run_state.mjs";

const sent = JSON.parse(readFileSync(new URL("events.json", import.meta.url), "utf8"));
const run = sent.reduce((state, message) => reduce(state, { node: "31", ...message }), emptyRun());

test("the events of a session become its run", () => {
  assert.equal(run.run, "run");
  assert.deepEqual(run.steps.map((s) => [s.step, s.prompt, s.chosen]), [[1, "a", 3], [2, null, 0], [3, "b", 1]]);
  assert.deepEqual(run.steps[0].attempts.map(verdictOf), ["unread", "rejected", "accepted"]);
  assert.deepEqual([run.status, run.current, run.tMax], ["done", null, 4]);
});

test("an attempt's prompt, seed, file and judgment are where the page looks for them", () => {
  const [unread, rejected] = run.steps[0].attempts;
  assert.equal(unread.prompt, "a");
  assert.match(unread.file, /^run\/attempts\/step01_attempt1_/);
  assert.deepEqual([unread.seed, rejected.seed, unread.seconds, unread.recalled], [0, 1, 0.5, false]);
  assert.match(unread.judgment.note, /no JSON object/);
  assert.equal(rejected.judgment.refined_prompt, "a better");
});

test("every event that a session sends is in the contract", () => {
  assert.deepEqual(sent.filter((message) => !(message.event in EVENTS)), []);
});
