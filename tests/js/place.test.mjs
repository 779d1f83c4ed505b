import { test } from "node:test";
import assert from "node:assert/strict";
import { after, describe, nowhere } from "../../js/place.mjs";

const title = (id) => ({ 26: "KSampler" })[id] ?? "?";

function at(...messages) {
  return messages.reduce((place, [kind, detail]) => after(place, kind, detail), nowhere());
}

test("an error of the loop names node, step and attempt", () => {
  const place = at(
    ["execution_start", {}],
    ["interleave_thinker", { event: "trying", node: "31", step: 3, attempt: 2 }],
    ["executing", "26"],
  );
  const error = { node_id: "31", exception_message: "out of memory\ntips" };
  assert.equal(describe(place, error, title), "Step 3, attempt 2: KSampler (node 26). out of memory");
});

test("an error outside of the loop is left to ComfyUI", () => {
  const place = at(["interleave_thinker", { event: "trying", node: "31", step: 1, attempt: 1 }]);
  assert.equal(describe(place, { node_id: "40", exception_message: "x" }, title), "");
});

test("a finished loop and a new prompt forget the place", () => {
  const inside = ["interleave_thinker", { event: "trying", node: "31", step: 1, attempt: 1 }];
  assert.equal(at(inside, ["interleave_thinker", { event: "done" }]).step, 0);
  assert.equal(at(inside, ["execution_start", {}]).step, 0);
});

test("a prompt that has ended (executing null) keeps the last node for the error message", () => {
  assert.equal(at(["executing", "26"], ["executing", null]).node, "26");
});
