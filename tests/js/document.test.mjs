import { test } from "node:test";
import assert from "node:assert/strict";
import { drawDocument, toMarkdown } from "../../js/document.mjs";
import { emptyRun, reduce } from "../../js/run_state.mjs";
import { all, buttonOf, byClass, hasButton, newDocument } from "./dom.mjs";

const step = (number, more = {}) => ({ step_number: number, prompt: `image ${number}`, auxiliary_text: `Text ${number}.`, ...more });
const attempt = (of, n, more = {}) => ({ event: "attempt", step: of, attempt: n, prompt: `try ${n}`, file: `tale/attempts/step0${of}_attempt0${n}_aaaa.png`, ...more });
const judgment = (of, n, accepted, more = {}) => ({ event: "judgment", step: of, attempt: n, judgment: { accepted, parsed: true }, ...more });
const chosen = (of, n, accepted = true) => ({ event: "chosen", step: of, chosen: n, accepted });

function runOf(steps, ...events) {
  return [{ event: "plan", run: "tale", node: "31", plan: { execution_plan: steps } }, ...events].reduce(reduce, emptyRun());
}

/** The document in a page of its own; `tools` remember what they were asked to do. */
function drawn(run, view = {}, more = {}) {
  const calls = [];
  const doc = newDocument();
  const tools = {
    imageUrl: (location) => `/view/${location.subfolder}/${location.filename}`,
    copy: (text) => calls.push(["copy", text]),
    print: (page) => calls.push(["print", page]),
    ...more,
  };
  doc.body.append(...drawDocument(doc, run, view, tools));
  return { root: doc.body, calls };
}

const outline = (root) => byClass(root, "itk-page")[0].children.map((e) => (e.tagName === "IMG" ? e.src.split("/").pop() : `${e.tagName} ${e.textContent}`));

test("texts and images stand in the order of the plan, one image a step", () => {
  const { root } = drawn(runOf([step(1), step(2, { prompt: null }), step(3)], attempt(1, 1), chosen(1, 1), attempt(3, 1), chosen(3, 1)));
  assert.deepEqual(outline(root), ["P Text 1.", "step01_attempt01_aaaa.png", "P Text 2.", "P Text 3.", "step03_attempt01_aaaa.png"]);
  assert.equal(byClass(root, "itk-large")[0].src, "/view/interleave/tale/attempts/step01_attempt01_aaaa.png");
});

test("a step that is not finished is not in the document yet", () => {
  const run = runOf([step(1), step(2)], attempt(1, 1), chosen(1, 1), attempt(2, 1), judgment(2, 1, false));
  assert.deepEqual(outline(drawn(run).root), ["P Text 1.", "step01_attempt01_aaaa.png"]);
  assert.ok(!toMarkdown(run).includes("Text 2"));
});

test("a run without a finished step says so, and has nothing to copy", () => {
  for (const run of [emptyRun(), runOf([step(1)]), runOf([step(1)], attempt(1, 1))]) {
    const { root } = drawn(run);
    assert.equal(root.textContent, "No step is finished yet.");
    assert.deepEqual([all(root).filter((e) => e.tagName === "BUTTON"), toMarkdown(run)], [[], ""]);
  }
});

test("an image that the critic did not accept says so: a reader would take it for a good one", () => {
  const notes = (accepted) => byClass(drawn(runOf([step(1)], attempt(1, 1), chosen(1, 1, accepted))).root, "itk-page")[0].children.map((e) => e.textContent);
  assert.ok(notes(false).includes("not accepted by the critic"));
  assert.ok(!notes(true).includes("not accepted by the critic"));
});

test("the attempts behind an image are folded away, each with the look of its verdict", () => {
  const run = runOf([step(1)], attempt(1, 1), judgment(1, 1, false), attempt(1, 2), { ...judgment(1, 2, false), judgment: { parsed: false } }, attempt(1, 3), judgment(1, 3, true), attempt(1, 4), chosen(1, 3));
  const { root } = drawn(run, {}, { thumbUrl: (location) => `/small/${location.filename}` });
  const [box] = byClass(root, "itk-folded");
  assert.equal(box.open, false);
  assert.equal(box.children[0].textContent, "4 attempts");
  assert.deepEqual(byClass(box, "itk-thumb").map((e) => e.className.split(" ")[1]), ["itk-rejected", "itk-unread", "itk-accepted", "itk-plain"]);
  assert.ok(byClass(box, "itk-thumb").every((e) => e.src.startsWith("/small/")));
  assert.deepEqual(byClass(drawn(runOf([step(1)], attempt(1, 1), chosen(1, 1))).root, "itk-folded"), [], "one attempt is the image itself");
});

test("what a person unfolded is still unfolded when the document is drawn anew", () => {
  const run = runOf([step(1)], attempt(1, 1), attempt(1, 2), chosen(1, 2));
  const view = {};
  const opened = () => byClass(drawn(run, view).root, "itk-folded")[0];
  const box = opened();
  box.open = true;
  box.fire("toggle");
  const again = opened();
  assert.equal(again.open, true);
  again.open = false;
  again.fire("toggle");
  assert.equal(opened().open, false);
});

test("the buttons copy the Markdown and the folder, and print the page", () => {
  const run = runOf([step(1)], attempt(1, 1), chosen(1, 1));
  const { root, calls } = drawn(run);
  buttonOf(root, "Copy as Markdown").fire("click");
  buttonOf(root, "Copy the folder's path").fire("click");
  buttonOf(root, "Print").fire("click");
  assert.deepEqual(calls, [["copy", toMarkdown(run)], ["copy", "output/interleave/tale"], ["print", byClass(root, "itk-page")[0]]]);
  assert.equal(byClass(root, "itk-path")[0].textContent, "output/interleave/tale");
  const bare = drawn({ ...run, run: "" }, {}, { copy: undefined, print: undefined }).root;
  assert.deepEqual([hasButton(bare, "Print"), byClass(bare, "itk-path")], [false, []], "what cannot be done is not offered");
});

test("the Markdown names images as they lie beside it in the run folder", () => {
  const run = runOf([step(1), step(2, { prompt: null })], attempt(1, 1), attempt(1, 2), chosen(1, 2));
  assert.equal(toMarkdown(run), "Text 1.\n\n![](attempts/step01_attempt02_aaaa.png)\n\nText 2.\n");
});

test("a text of a model is text in the page and in the Markdown", () => {
  const hostile = '<img src=x onerror="hit()"> [a](javascript:hit()) # *b* `c`';
  const run = runOf([step(1, { auxiliary_text: hostile })], attempt(1, 1, { prompt: hostile }), attempt(1, 2, { prompt: hostile }), chosen(1, 2));
  const { root } = drawn(run);
  assert.equal(byClass(root, "itk-said")[0].textContent, hostile);
  const images = all(root).filter((e) => e.tagName === "IMG");
  assert.equal(images.length, 3, "the image and its two attempts");
  assert.ok(images.every((e) => e.src.startsWith("/view/") && e.onerror === undefined));
  const [line] = toMarkdown(run).split("\n");
  assert.doesNotMatch(line, /(?<!\\)[<[\]()#*`]/, "no sign of Markdown or HTML without a backslash");
  assert.equal(line.replaceAll("\\", ""), hostile);
});
