import { test } from "node:test";
import assert from "node:assert/strict";
import { describeError, firstLine, noProgress, withMessage } from "../../js/error_location.mjs";

const title = (id) => ({ 26: "KSampler" })[id] ?? "?";
const error = { node_id: "31", exception_message: "out of memory\ntips" };

function at(...messages) {
  return messages.reduce((progress, [kind, detail]) => withMessage(progress, kind, detail), noProgress());
}

/** Ids as the pack makes them: 31.s2a1.b26 is a copy of node 26, everything else is shown at Loop Close. */
function running(...ids) {
  const nodes = ids.map((id) => {
    const [, of] = /\.b(\d+)/.exec(id) ?? [];
    const real = id.split(".")[0];
    return [id, { node_id: id, real_node_id: real, display_node_id: of ?? real, state: "running" }];
  });
  return ["progress_state", { nodes: Object.fromEntries(nodes) }];
}

test("an error of the loop names node, step and attempt", () => {
  const progress = at(["execution_start", {}], running("31", "31.s2a1.next", "31.s3a2.b26"), ["executing", "26"]);
  assert.equal(describeError(progress, error, title), "Step 3, attempt 2: KSampler (node 26). out of memory");
});

test("a node that is blocked is reported by its own id and has a place too", () => {
  const progress = at(running("31", "31.s1a3.next", "31.s2a1.keep"), ["executing", "31"]);
  const blocked = { node_id: "31.s2a1.keep", exception_message: "Execution Blocked: skipped" };
  assert.match(describeError(progress, blocked, title), /^Step 2, attempt 1: .*Execution Blocked: skipped/);
});

test("numbers are compared as numbers", () => {
  assert.match(describeError(at(running("31.s9a1.next", "31.s10a2.b26")), error, title), /^Step 10, attempt 2: KSampler/);
  assert.match(describeError(at(running("31.s1a10.b26", "31.s1a9.next")), error, title), /^Step 1, attempt 10: KSampler/);
});

test("judging again and comparing have a place, too, and so has what a node of the body places", () => {
  for (const id of ["31.s2j1.b26", "31.s2c1.compare", "31.s2a1.b26.0.0.inner"]) {
    assert.match(describeError(at(running("31", id)), error, title), /^Step 2, attempt 1/, id);
  }
});

test("of two nodes of an attempt it is the one that started last: the other waits for it", () => {
  const progress = at(running("31.s1a1.b26", "31.s1a1.b27"), ["executing", "26"]);
  assert.match(describeError(progress, error, title), /node 26/);
});

test("a node elsewhere that started meanwhile, or another loop's, is not named", () => {
  const progress = at(running("31.s1a1.b26", "40", "50.s9a1.b60"), ["executing", "40"]);
  assert.match(describeError(progress, error, title), /^Step 1, attempt 1: KSampler/);
});

test("an error outside of the loop is left to ComfyUI", () => {
  const progress = at(running("31", "31.s1a1.next", "40"), ["executing", "40"]);
  assert.equal(describeError(progress, { node_id: "40", exception_message: "x" }, title), "");
});

test("what ran before, and a node that has finished, is no place", () => {
  const inside = running("31", "31.s1a1.b26");
  assert.equal(describeError(at(inside, ["execution_start", {}]), error, title), "");
  const done = { node_id: "31.s1a1.b26", real_node_id: "31", display_node_id: "26", state: "finished" };
  assert.equal(describeError(at(inside, ["progress_state", { nodes: { x: done } }]), error, title), "");
});

test("a prompt that has ended (executing null) keeps the last node for the error message", () => {
  const progress = at(running("31.s1a1.b26", "31.s1a1.b27"), ["executing", "26"], ["executing", null]);
  assert.match(describeError(progress, error, title), /node 26/);
});

test("of a long message its first line is shown, with the example that it leads to", () => {
  assert.equal(firstLine("broke\n\nTraceback\nmore"), "broke");
  assert.equal(firstLine("Create a file, for example with:\n\n[local]\nbase_url = 1\n"), "Create a file, for example with:\n[local]\nbase_url = 1");
  assert.equal(firstLine(`so:\n${"x\n".repeat(50)}`).split("\n").length, 7);
  for (const nothing of [undefined, null, "", "\n \n"]) assert.equal(firstLine(nothing), "");
});
