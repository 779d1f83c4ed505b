import { test } from "node:test";
import assert from "node:assert/strict";
import { changed, emptyCard, firstNumber, inserted, moved, outline, removed, toCards, toText } from "../../js/plan.mjs";

const PLAN = {
  execution_plan: [
    { step_number: 3, step_name: "a", instruction: "Draw a disc.", prompt: "a disc", auxiliary_text: "First." },
    { step_number: 4, step_name: "", instruction: "Rest.", prompt: null, auxiliary_text: null },
  ],
};

test("a plan that is not changed comes back as it was", () => {
  const back = JSON.parse(toText(toCards(PLAN), PLAN));
  assert.deepEqual(back, PLAN);
});

test("request and reasoning outlive an edit: they are the document's title and the plan's reasons", () => {
  const whole = { ...PLAN, request: "Show it.", reasoning: "Because." };
  assert.deepEqual(JSON.parse(toText(toCards(whole), whole)), whole);
});

test("steps are moved, added and taken away, and numbered anew", () => {
  const cards = toCards(PLAN);
  assert.deepEqual(moved(cards, 0, 1).map((c) => c.prompt), ["", "a disc"]);
  assert.equal(moved(cards, 0, -1), cards);
  assert.equal(moved(cards, 1, 1), cards);
  const more = inserted(cards, 1);
  assert.deepEqual(more[1], emptyCard());
  assert.deepEqual(JSON.parse(toText(more, PLAN)).execution_plan.map((s) => s.step_number), [3, 4, 5]);
  assert.deepEqual(removed(more, 1), cards);
});

test("a prompt that was the instruction too stays both; another instruction is kept", () => {
  const [same] = changed([{ ...emptyCard(), prompt: "x", instruction: "x" }], 0, { prompt: "y" });
  assert.deepEqual([same.prompt, same.instruction], ["y", "y"]);
  const [other] = changed(toCards(PLAN), 0, { prompt: "y" });
  assert.deepEqual([other.prompt, other.instruction], ["y", "Draw a disc."]);
});

test("text only means no prompt, and comes back when it is taken off", () => {
  const cards = changed(toCards(PLAN), 0, { textOnly: true });
  assert.equal(JSON.parse(toText(cards)).execution_plan[0].prompt, null);
  assert.equal(JSON.parse(toText(changed(cards, 0, { textOnly: false }))).execution_plan[0].prompt, "a disc");
});

test("whatever stands in a plan, cards are texts", () => {
  for (const plan of [null, {}, { execution_plan: "x" }, { execution_plan: [null, { prompt: 5 }, { prompt: {}, instruction: [1] }] }]) {
    for (const card of toCards(plan)) assert.ok(["name", "instruction", "prompt", "text"].every((key) => typeof card[key] === "string"));
  }
  assert.equal(firstNumber({ execution_plan: [{ step_number: "two" }] }), 1);
  assert.deepEqual(outline(toCards(PLAN), 3), ["3. a disc", "4. (text only) "]);
});
