import { test } from "node:test";
import assert from "node:assert/strict";
import { drawDocument, titleOf, toText } from "../../js/document.mjs";
import { createDocumentFiles, fileName } from "../../js/document_files.mjs";
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
    open: (asked) => calls.push(["open", asked]),
    print: (asked) => calls.push(["print", asked]),
    download: (asked) => calls.push(["download", asked]),
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
  assert.ok(!toText(run).includes("Text 2"));
});

test("a run without a finished step says so, and has nothing to copy", () => {
  for (const run of [emptyRun(), runOf([step(1)]), runOf([step(1)], attempt(1, 1))]) {
    const { root } = drawn(run);
    assert.equal(root.textContent, "No step is finished yet.");
    assert.deepEqual([all(root).filter((e) => e.tagName === "BUTTON"), toText(run)], [[], ""]);
  }
});

test("an image that the critic did not accept says so where it is asked how the document was made", () => {
  const notes = (accepted, details = true) => byClass(drawn(runOf([step(1)], attempt(1, 1), chosen(1, 1, accepted)), { details }).root, "itk-page")[0].children.map((e) => e.textContent);
  assert.ok(notes(false).includes("not accepted by the critic"));
  assert.ok(!notes(true).includes("not accepted by the critic"));
  assert.ok(!notes(false, false).includes("not accepted by the critic"), "a reader wants the story");
});

test("the attempts behind an image are folded away, each with the look of its verdict", () => {
  const run = runOf([step(1)], attempt(1, 1), judgment(1, 1, false), attempt(1, 2), { ...judgment(1, 2, false), judgment: { parsed: false } }, attempt(1, 3), judgment(1, 3, true), attempt(1, 4), chosen(1, 3));
  const { root } = drawn(run, { details: true }, { thumbUrl: (location) => `/small/${location.filename}` });
  const [box] = byClass(root, "itk-folded");
  assert.equal(box.open, false);
  assert.equal(box.children[0].textContent, "4 attempts");
  assert.deepEqual(byClass(box, "itk-thumb").map((e) => e.className.split(" ")[1]), ["itk-rejected", "itk-unread", "itk-accepted", "itk-plain"]);
  assert.ok(byClass(box, "itk-thumb").every((e) => e.src.startsWith("/small/")));
  assert.deepEqual(byClass(drawn(runOf([step(1)], attempt(1, 1), chosen(1, 1)), { details: true }).root, "itk-folded"), [], "one attempt is the image itself");
});

test("what a person unfolded is still unfolded when the document is drawn anew", () => {
  const run = runOf([step(1)], attempt(1, 1), attempt(1, 2), chosen(1, 2));
  const view = { details: true };
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

test("open, print and download ask for the document as it was chosen", () => {
  const run = runOf([step(1)], attempt(1, 1), chosen(1, 1));
  const view = {};
  let { root, calls } = drawn(run, view);
  const plain = { run: "tale", format: "html", layout: "story", details: false, workflow: false };
  for (const label of ["Open", "Print or PDF", "HTML", "ZIP", "Word", "Video", "Copy the text"]) buttonOf(root, label).fire("click");
  assert.deepEqual(calls, [
    ["open", plain],
    ["print", plain],
    ["download", plain],
    ["download", { ...plain, format: "zip" }],
    ["download", { ...plain, format: "docx" }],
    ["download", { ...plain, format: "mp4" }],
    ["copy", "Text 1."],
  ]);
  const layout = all(root).find((e) => e.tagName === "SELECT");
  assert.deepEqual(layout.children.map((e) => e.value), ["story", "guide", "comic", "slides"], "as the server's layouts");
  layout.value = "comic";
  layout.fire("change");
  const [details, workflow] = all(root).filter((e) => e.tagName === "INPUT");
  for (const box of [details, workflow]) {
    box.checked = true;
    box.fire("change");
  }
  ({ root, calls } = drawn(run, view));
  for (const label of ["ZIP", "Print or PDF"]) buttonOf(root, label).fire("click");
  const asked = { run: "tale", format: "zip", layout: "comic", details: true, workflow: true };
  assert.deepEqual(calls, [["download", asked], ["print", { ...asked, format: "html", workflow: false }]], "paper needs no workflow");
});

test("what cannot be done is not offered", () => {
  const run = runOf([step(1)], attempt(1, 1), chosen(1, 1));
  assert.ok(!hasButton(drawn({ ...run, run: "" }).root, "Open"), "a run that is nowhere on disk");
  const bare = drawn(run, {}, { open: undefined, print: undefined, download: undefined, copy: undefined }).root;
  assert.deepEqual(all(bare).filter((e) => e.tagName === "BUTTON"), []);
});

test("title and lead are the plan's, else the title that the server made of the request", () => {
  const titled = (plan, title = "") => {
    const events = [{ event: "plan", run: "tale", title, node: "31", plan: { execution_plan: [step(1)], ...plan } }, attempt(1, 1), chosen(1, 1)];
    return events.reduce(reduce, emptyRun());
  };
  const run = titled({ title: "The Fox", lead: "A tale." }, "Tell me of a fox");
  const [box] = byClass(drawn(run).root, "itk-page");
  assert.deepEqual(box.children.slice(0, 2).map((e) => [e.tagName, e.textContent]), [["H2", "The Fox"], ["P", "A tale."]]);
  assert.equal(toText(run), "The Fox\n\nA tale.\n\nText 1.");
  assert.equal(titleOf(titled({}, "Tell me of a fox")), "Tell me of a fox");
  assert.equal(titleOf(titled({})), "");
});

test("a download has the name that the server gives it, whatever stands in it", () => {
  assert.equal(fileName("attachment; filename=\"document.zip\"; filename*=UTF-8''The-Fox.zip", "zip"), "The-Fox.zip");
  assert.equal(fileName("attachment; filename*=UTF-8''%E7%8B%90.html", "html"), "狐.html");
  for (const odd of [null, "", "attachment", "attachment; filename*=UTF-8''%E7%8"]) assert.equal(fileName(odd, "mp4"), "document.mp4");
});

test("a text of a model is text in the page and in the Markdown", () => {
  const hostile = '<img src=x onerror="hit()"> [a](javascript:hit()) # *b* `c`';
  const run = runOf([step(1, { auxiliary_text: hostile })], attempt(1, 1, { prompt: hostile }), attempt(1, 2, { prompt: hostile }), chosen(1, 2));
  const { root } = drawn(run, { details: true });
  assert.equal(byClass(root, "itk-said")[0].textContent, hostile);
  const images = all(root).filter((e) => e.tagName === "IMG");
  assert.equal(images.length, 3, "the image and its two attempts");
  assert.ok(images.every((e) => e.src.startsWith("/view/") && e.onerror === undefined));
  assert.equal(toText(run), hostile);
});

test("a server that does not answer is named, and the empty tab goes", async (t) => {
  const told = [];
  let closed = 0;
  globalThis.window = { open: () => ({ close: () => (closed += 1) }) };
  t.after(() => delete globalThis.window);
  const files = createDocumentFiles({ fetchApi: () => Promise.reject(new TypeError("Failed to fetch")) }, (...said) => told.push(said), newDocument());
  await files.open({ run: "tale", format: "html", layout: "story" });
  await files.download(Promise.reject(new TypeError("Failed to fetch")));
  assert.equal(closed, 1);
  assert.deepEqual(told.map(([severity]) => severity), ["error", "error"]);
  assert.ok(told.every(([, text]) => text.includes("Failed to fetch")));
});

test("a title of any length makes an address that the server reads", async () => {
  const asked = [];
  const files = createDocumentFiles({ fetchApi: (path) => (asked.push(path), Promise.resolve({ ok: false, json: async () => ({}) })) }, () => {}, newDocument());
  await files.download({ run: "tale", format: "html", layout: "story", title: "狐".repeat(9000) });
  assert.ok(asked[0].length < 8000, `${asked[0].length} characters`);
});
