import { test } from "node:test";
import assert from "node:assert/strict";
import { partsOf, secondsLeft, timeLeft } from "../../js/progress.mjs";
import { emptyRun, reduce } from "../../js/run_state.mjs";

/** Numbers that look random and are the same in each run of the tests. */
function dice(seed) {
  let state = seed + 1;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
}

/** The events of a run as the server sends them: text-only steps, recalled attempts, with and without a critic. */
function eventsOf(roll) {
  const steps = Array.from({ length: 1 + roll(6) }, (_, i) => ({ step_number: i + 1, prompt: roll(4) ? "x" : null }));
  const t_max = 1 + roll(5);
  const hasCritic = Boolean(roll(3));
  const events = [{ event: "plan", run: "r", plan: { execution_plan: steps } }];
  steps.forEach(({ prompt }, at) => {
    const step = at + 1;
    if (prompt === null) return events.push({ event: "chosen", step, chosen: 0, accepted: true });
    for (let attempt = 1, accepted = false; attempt <= t_max && !accepted; attempt++) {
      const recalled = !roll(4);
      accepted = !roll(3) || !hasCritic;
      if (!recalled) events.push({ event: "trying", step, attempt });
      events.push({ event: "attempt", step, attempt, t_max, recalled, seconds: roll(9), file: "r/a.png" });
      if (hasCritic) events.push({ event: "judgment", step, attempt, t_max, judge_seconds: roll(9), judgment: { accepted, parsed: Boolean(roll(5)) } });
      if (accepted || attempt === t_max) events.push({ event: "chosen", step, chosen: attempt, accepted });
    }
  });
  return events;
}

test("the bar never goes backwards, is full only when all is done, and no time is said that is none", () => {
  for (let seed = 0; seed < 400; seed++) {
    let run = emptyRun();
    let before = [];
    for (const event of eventsOf(dice(seed))) {
      run = reduce(run, event);
      const parts = partsOf(run);
      parts.forEach((part, at) => assert.ok(part >= (before[at] ?? 0) && part <= 1, `seed ${seed}, ${JSON.stringify(event)}: ${before} to ${parts}`));
      const isOver = run.steps.every((step) => step.prompt === null || step.chosen);
      assert.equal(parts.every((part) => part === 1), isOver, `seed ${seed}`);
      const left = secondsLeft(run);
      assert.ok(left === null || (Number.isFinite(left) && left >= 0), `seed ${seed}: ${left}`);
      before = parts;
    }
    assert.equal(secondsLeft(run) || 0, 0, "nothing is left at the end");
  }
});

const told = (...events) => events.reduce(reduce, emptyRun());
const plan = (count) => ({ event: "plan", run: "r", plan: { execution_plan: Array.from({ length: count }, (_, i) => ({ step_number: i + 1, prompt: "x" })) } });
const made = (step, attempt, seconds, judge_seconds, more = {}) => [
  { event: "attempt", step, attempt, t_max: 4, seconds, file: "r/a.png", ...more },
  { event: "judgment", step, attempt, t_max: 4, judge_seconds, judgment: { accepted: false, parsed: true } },
];
const chosen = (step, attempt) => ({ event: "chosen", step, chosen: attempt, accepted: true });

test("time left is that of this run's own attempts: picture and verdict, as many a step as the steps before took", () => {
  assert.equal(secondsLeft(told(plan(3), ...made(1, 1, 60, 9))), null, "no step is over yet");
  const one = [plan(3), ...made(1, 1, 60, 9), ...made(1, 2, 5, 1), chosen(1, 2)];
  assert.equal(secondsLeft(told(...one)), 24, "two steps of two attempts; the first one waited for the models");
  assert.equal(secondsLeft(told(...one, ...made(2, 1, 5, 1))), 18);
  assert.equal(secondsLeft(told(...one, ...[1, 2, 3].flatMap((n) => made(2, n, 5, 1)))), 18, "one more at least");
});

test("attempts from the cache say nothing of the time, for they cost none", () => {
  assert.equal(secondsLeft(told(plan(2), ...made(1, 1, 60, 0, { recalled: true }), chosen(1, 1))), null);
  const fresh = [...made(2, 1, 7, 1), chosen(2, 1)];
  assert.equal(secondsLeft(told(plan(3), ...made(1, 1, 60, 0, { recalled: true }), chosen(1, 1), ...fresh)), 8);
});

test("numbers of a file that are none are no time", () => {
  for (const seconds of ["9", null, undefined, NaN, [3]]) assert.equal(secondsLeft(told(plan(2), ...made(1, 1, seconds, 1), chosen(1, 1))), null);
  for (const judge of ["9", null, undefined, NaN]) assert.equal(secondsLeft(told(plan(2), ...made(1, 1, 4, judge), chosen(1, 1))), 4);
});

test("time left is said as a person would", () => {
  const said = [[null, ""], [0, "a few seconds left"], [9.9, "a few seconds left"], [31, "about 40 s left"], [55, "about 1 min left"], [200, "about 3 min left"], [3599, "about 1 h left"], [7500, "about 2 h 5 min left"]];
  for (const [seconds, words] of said) assert.equal(timeLeft(seconds), words);
});
