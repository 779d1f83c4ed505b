import { test } from "node:test";
import assert from "node:assert/strict";
import { savedRunLabel } from "../../js/saved_runs.mjs";

const label = (entry) => savedRunLabel(entry, "en-GB");

test("a saved run is named by when it was, how it ended and what it is about", () => {
  const time = new Date(2026, 10, 5, 8, 3).getTime() / 1000;
  assert.equal(label({ name: "boat-1", title: "A paper boat", status: "done", time }), "5 Nov, 08:03 · finished · A paper boat");
  assert.equal(label({ name: "boat-1~2", title: "A paper boat", status: "stopped", time }), "5 Nov, 08:03 · stopped · A paper boat (~2)", "branches have one title");
  assert.equal(label({ name: "boat-1", title: "", status: "running" }), "not finished · boat-1", "older servers and untitled runs");
  assert.ok(label({ name: "n", title: "x".repeat(500), status: "", time: "soon" }).length < 100);
});
