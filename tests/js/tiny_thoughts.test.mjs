/** The tiny agents' thoughts, in the sentences that Python makes of them (tests/unit/test_thoughts.py writes the file). */
import { readFileSync } from "node:fs";
import { test } from "node:test";
import assert from "node:assert/strict";
import { inSentences } from "../../js/tiny_thoughts.mjs";

const told = JSON.parse(readFileSync(new URL("tiny_thoughts.json", import.meta.url), "utf8"));

test("the page says what the command line says", () => {
  assert.ok(told.filter(([thought, sentence]) => thought !== sentence).length > 60);
  for (const [thought, sentence] of told) assert.equal(inSentences(thought), sentence);
});

test("what is no text at all is shown as none", () => {
  assert.deepEqual([inSentences(null), inSentences(undefined)], ["", ""]);
});
