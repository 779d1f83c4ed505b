import { test } from "node:test";
import assert from "node:assert/strict";
import { after, describe, nowhere } from "../../js/place.mjs";

const title = (id) => ({ 26: "KSampler" })[id] ?? "?";

function at(...messages) {
  return messages.reduce((place, [kind, detail]) => after(place, kind, detail), nowhere());
}

function running(...ids) {
  const nodes = ids.map((id) => [id, { node_id: id, real_node_id: id.split(".")[0], state: "running" }]);
  return ["progress_state", { nodes: Object.fromEntries(nodes) }];
}

test("an error of the loop names node, step and attempt", () => {
  const place = at(["execution_start", {}], running("31", "31.s2a1.next", "31.s3a2.b26"), ["executing", "26"]);
  const error = { node_id: "31", exception_message: "out of memory\ntips" };
  assert.equal(describe(place, error, title), "Step 3, attempt 2: KSampler (node 26). out of memory");
});

test("numbers are compared as numbers", () => {
  assert.deepEqual([at(running("31.s9a1.next", "31.s10a2.b26")).step, at(running("31.s1a10.b26", "31.s1a9.next")).attempt], [10, 10]);
});

test("judging again and comparing have a place, too, and so has what a node of the body places", () => {
  for (const id of ["31.s2j1.b26", "31.s2c1.compare", "31.s2a1.b26.0.0.inner"]) {
    assert.equal(at(running("31", id)).step, 2, id);
  }
});

test("an error outside of the loop is left to ComfyUI", () => {
  const place = at(running("31", "31.s1a1.b26"));
  assert.equal(describe(place, { node_id: "40", exception_message: "x" }, title), "");
});

test("what runs after a loop, and a new prompt, have no step", () => {
  const inside = running("31", "31.s1a1.b26");
  assert.equal(at(inside, running("32")).step, 0);
  assert.equal(at(inside, ["execution_start", {}]).step, 0);
});

test("a node that has finished is no place", () => {
  const done = { node_id: "31.s1a1.b26", real_node_id: "31", state: "finished" };
  assert.equal(at(["progress_state", { nodes: { x: done } }]).step, 0);
});

test("a prompt that has ended (executing null) keeps the last node for the error message", () => {
  assert.equal(at(["executing", "26"], ["executing", null]).node, "26");
});
