import { test } from "node:test";
import assert from "node:assert/strict";
import { drawRun } from "../../js/strip.mjs";
import { emptyRun, fromFiles, reduce } from "../../js/run_state.mjs";
import { waitsOf } from "../../js/wait.mjs";
import { all, buttonOf, byClass, hasButton, newDocument } from "./dom.mjs";

const PLAN = {
  execution_plan: [
    { step_number: 1, prompt: "a red circle", auxiliary_text: "First." },
    { step_number: 2, prompt: null, auxiliary_text: "The end." },
  ],
};
const plan = { event: "plan", node: "31", workflow: "W", run: "tale", plan: PLAN };
const attempt = (n, more = {}) => ({ event: "attempt", node: "31", workflow: "W", step: 1, attempt: n, t_max: 3, prompt: `try ${n}`, seed: n, seconds: 0.5, file: `tale/attempts/step01_attempt0${n}_aaaa000${n}.png`, ...more });
const judgment = (n, more = {}) => ({ event: "judgment", node: "31", workflow: "W", step: 1, attempt: n, judgment: { accepted: false, parsed: true, reasoning: `why ${n}`, refined_prompt: `next ${n}`, ...more } });
const DONE = { event: "done", node: "31", workflow: "W", status: "done" };

function runOf(...events) {
  return events.reduce(reduce, emptyRun());
}

/** A drawn run; `tools` remember what they were asked to do. */
function drawn(run, view = { open: "" }, more = {}) {
  const calls = [];
  const tools = {
    imageUrl: (location) => `/view/${location.subfolder}/${location.filename}`,
    thumbUrl: (location) => `/small/${location.filename}`,
    accept: (of, step, number) => calls.push(["accept", of.run, step, number]),
    retry: (of, step, prompt) => calls.push(["retry", of.run, step, prompt]),
    ...more,
  };
  const root = newDocument().createElement("div");
  drawRun(root, run, view, tools);
  return { root, view, calls, redraw: (next) => drawRun(root, next, view, tools) };
}

const thumbs = (root) => byClass(root, "itk-thumb");
const labels = (root) => thumbs(root).map((thumb) => thumb.getAttribute("aria-label"));
const status = (root) => byClass(root, "itk-state")[0].textContent;

test("a run of which nothing is known says so and offers nothing", () => {
  const { root } = drawn(emptyRun());
  assert.equal(status(root), "no run yet; press Run to begin one");
  assert.deepEqual([thumbs(root), byClass(root, "itk-step"), all(root).filter((e) => e.tagName === "BUTTON")], [[], [], []]);
});

test("a plan without attempts shows its steps, so that a person can read it before the first image", () => {
  const { root } = drawn(runOf(plan));
  assert.deepEqual(byClass(root, "itk-title").map((e) => e.textContent), ["1. a red circle", "2. The end."]);
  assert.deepEqual(byClass(root, "itk-text").map((e) => e.textContent), ["First."], "a text-only step shows its text once");
  assert.equal(status(root), "planned");
  assert.deepEqual(thumbs(root), []);
});

test("each verdict has a look and words of its own: colour alone does not reach everybody", () => {
  const run = runOf(
    plan,
    attempt(1), judgment(1),
    attempt(2), judgment(2, { parsed: false }),
    attempt(3, { overridden: true }), { ...judgment(3), overridden: true },
    attempt(4), judgment(4, { accepted: true }),
    attempt(5),
    DONE,
  );
  const { root } = drawn(run);
  assert.deepEqual(thumbs(root).map((e) => e.className), ["rejected", "unread", "picked", "accepted", "plain"].map((name) => `itk-thumb itk-${name}`));
  assert.deepEqual(labels(root), [
    "Step 1, attempt 1: rejected",
    "Step 1, attempt 2: the critic's reply could not be read",
    "Step 1, attempt 3: accepted by you",
    "Step 1, attempt 4: accepted",
    "Step 1, attempt 5: not judged",
  ]);
});

const rates = (root) => byClass(root, "itk-rate").map((e) => e.textContent);

test("below the head stands how many attempts the critic itself accepted so far", () => {
  const going = [plan, attempt(1), judgment(1), attempt(2), judgment(2, { parsed: false, accepted: true }), attempt(3, { overridden: true }), { ...judgment(3), overridden: true }];
  assert.deepEqual(rates(drawn(runOf(plan, attempt(1))).root), [], "nothing was judged yet");
  assert.deepEqual(rates(drawn(runOf(...going)).root), ["accepted 0 of 2"], "what a person accepted is no acceptance of the critic's");
  assert.deepEqual(rates(drawn(runOf(...going, attempt(4), judgment(4, { accepted: true }))).root), ["accepted 1 of 3"]);
});

test("strictness stands beside the accept rate where it is not 0, and the log-odds at their attempt", () => {
  const shifted = (strictness, log_odds) => ({ strictness, log_odds });
  const run = runOf(plan, attempt(1), judgment(1, shifted(2.5, 1.26)), attempt(2), judgment(2, { accepted: true, ...shifted(2.5, 3) }));
  assert.deepEqual(rates(drawn(run).root), ["accepted 1 of 2 · strictness 2.5"]);
  assert.equal(byClass(drawn(run, { open: "1.1" }).root, "itk-facts")[0].textContent, "rejected · seed 1 · 0.50 s · log-odds of its verdict 1.3, strictness 2.5");
  assert.deepEqual(rates(drawn(runOf(plan, attempt(1), judgment(1, shifted(2)), attempt(2), judgment(2, shifted(-1)))).root), ["accepted 0 of 2 · strictness -1 to 2"]);
});

test("numbers of a file that are none show as nothing", () => {
  for (const bad of ["<b>2</b>", [2], { valueOf: 1 }, null, true]) {
    const { root } = drawn(runOf(plan, attempt(1), judgment(1, { strictness: bad, log_odds: bad })), { open: "1.1" });
    assert.deepEqual(rates(root), ["accepted 0 of 1"]);
    assert.equal(byClass(root, "itk-facts")[0].textContent, "rejected · seed 1 · 0.50 s");
  }
});

test("only the chosen attempt is ticked", () => {
  const { root } = drawn(runOf(plan, attempt(1), judgment(1), attempt(2), judgment(2), { event: "chosen", step: 1, chosen: 1, accepted: false }));
  assert.deepEqual(thumbs(root).map((e) => byClass(e, "itk-chosen").length), [1, 0]);
});

test("a recalled attempt says so in place of its seconds, for it cost none", () => {
  const facts = (number) => byClass(drawn(runOf(plan, attempt(1), attempt(2, { recalled: true })), { open: `1.${number}` }).root, "itk-facts")[0].textContent;
  assert.equal(facts(1), "not judged · seed 1 · 0.50 s");
  assert.equal(facts(2), "not judged · seed 2 · from cache");
});

test("what there is to know of a run stands above it as text, and the next run does not have it", () => {
  const warned = [plan, { event: "warning", text: "Node 13 <b>always</b> changes." }, attempt(1)];
  const shown = byClass(drawn(runOf(...warned)).root, "itk-reason");
  assert.deepEqual(shown.map((e) => e.textContent), ["Node 13 <b>always</b> changes."]);
  assert.deepEqual(byClass(drawn(runOf(...warned, plan)).root, "itk-reason"), []);
});

test("the head says where a run is, and how it ended", () => {
  const going = [plan, attempt(1), judgment(1), { event: "trying", step: 1, attempt: 2, t_max: 3 }];
  assert.equal(status(drawn(runOf(...going)).root), "step 1 of 2, attempt 2 of 3");
  for (const [end, words] of [
    [DONE, "finished"],
    [{ event: "done", status: "stopped", reason: "Stopped after step 1." }, "stopped"],
    [{ event: "ended", status: "interrupted" }, "interrupted; what is finished is kept"],
    [{ event: "ended", status: "failed" }, "failed; what is finished is kept"],
  ]) {
    assert.equal(status(drawn(runOf(...going, end)).root), words);
  }
});

/** Role and text of what stands first in a view. */
const first = (root) => [root.children[0].getAttribute("role"), root.children[0].textContent];
const steerable = { controls: () => [["Continue", () => {}]] };

test("why nothing goes on stands first, with the button that goes on, and nowhere while something does", () => {
  const going = [plan, attempt(1), judgment(1)];
  const after = (end, tools) => first(drawn(runOf(...going, end), { open: "" }, tools).root);
  const stop = { event: "done", status: "stopped", reason: "Stopped after step 1." };
  assert.deepEqual(after(stop, steerable), ["alert", "Stopped after step 1.Press Continue. What is finished is kept."]);
  assert.deepEqual(after(stop, {}), ["alert", "Stopped after step 1."], "a run of another workflow has no such button here");
  assert.deepEqual(after({ event: "ended", status: "failed", reason: "Step 1: <b>no</b> CLIP." }, steerable), ["alert", "Step 1: <b>no</b> CLIP.Mend that, then press Continue. What is finished is kept."]);
  assert.deepEqual(after({ event: "ended", status: "interrupted" }, steerable), ["alert", "This run was interrupted.Press Continue. What is finished is kept."]);
  for (const end of [DONE, { event: "trying", step: 1, attempt: 2 }]) assert.equal(after(end, steerable)[0], "status");
  assert.equal(first(drawn(runOf(...going, stop, plan)).root)[0], "status", "the run was queued again");
});

const bar = (root) => all(root).find((e) => e.getAttribute("role") === "progressbar");

test("while a run is under way a bar has a segment for each picture, and the time left once a step is over", () => {
  const going = [plan, attempt(1)];
  const begun = bar(drawn(runOf(...going)).root);
  assert.deepEqual([begun.children.length, begun.getAttribute("aria-valuenow"), begun.getAttribute("aria-valuetext")], [1, "17", "17%"], "the text-only step needs no work");
  const two = { execution_plan: ["a", "b"].map((prompt) => ({ prompt })) };
  const known = drawn(runOf({ ...plan, plan: two }, attempt(1), { ...judgment(1), judge_seconds: 20 }, { event: "chosen", step: 1, chosen: 1, accepted: true })).root;
  assert.equal(bar(known).getAttribute("aria-valuetext"), "50%, about 30 s left");
  assert.equal(bar(drawn(runOf(...going, DONE)).root), undefined);
  assert.equal(bar(drawn(emptyRun()).root), undefined);
});

test("from the click on Run to the loop's first event the view says what is waited for, in place of what was before", () => {
  const graph = { 1: { class_type: "InterleaveThinkerPlanner", inputs: { agent: ["2", 0] } }, 2: { class_type: "CLIPLoader", inputs: {} }, 9: { class_type: "InterleaveThinkerLoopClose", inputs: {} } };
  const [wait] = waitsOf({ queue_running: [[0, "p", graph, { extra_pnginfo: { workflow: { id: "W" } } }]] });
  const stopped = runOf(plan, attempt(1), { event: "done", status: "stopped", reason: "Stopped after step 1." });
  for (const before of [emptyRun(), stopped]) {
    const { root } = drawn({ ...before, waiting: { ...wait, at: "1", words: "<b>First</b> a boat" } });
    assert.deepEqual([status(root), byClass(root, "itk-banner").length], ["Planning…", 0]);
    assert.equal(bar(root).getAttribute("aria-valuenow"), null, "nobody knows how long a planner thinks");
    assert.equal(byClass(root, "itk-speech")[0].textContent, "<b>First</b> a boat");
  }
  const failed = drawn({ ...emptyRun(), waiting: { ...wait, error: "Interleave Planner: the server is off." } }).root;
  assert.deepEqual(first(failed), ["alert", "Interleave Planner: the server is off.Mend that, then press Run. What is finished is kept."]);
  assert.equal(bar(failed), undefined);
});

test("the attempt that is under way is shown before its image is there, and pulses until its verdict", () => {
  const begun = [plan, { event: "trying", step: 1, attempt: 1 }];
  const [waiting] = thumbs(drawn(runOf(...begun)).root);
  assert.ok(waiting.classes.includes("itk-empty"));
  assert.deepEqual(thumbs(drawn(runOf(...begun, attempt(1))).root).map((e) => e.classes.includes("itk-busy")), [true]);
  assert.deepEqual(thumbs(drawn(runOf(...begun, attempt(1), judgment(1))).root).map((e) => e.classes.includes("itk-busy")), [false]);
});

test("what the agent writes is shown at the step that waits for it, and nowhere once that has ended", () => {
  const going = { ...runOf(plan, attempt(1)), agentText: "Judging\nI look at the circle" };
  assert.deepEqual(byClass(drawn(going).root, "itk-speech").map((e) => e.textContent), ["I look at the circle"]);
  assert.deepEqual(byClass(drawn({ ...going, current: null }).root, "itk-speech"), []);
  const tasks = (run) => byClass(drawn(run).root, "itk-task").map((e) => e.textContent);
  assert.deepEqual(tasks(going), ["Judging…"]);
  assert.deepEqual(tasks(runOf(plan, attempt(1))), ["Judging…"], "before its first word");
  assert.deepEqual([tasks(runOf(plan, { event: "trying", step: 1, attempt: 1 })), tasks(runOf(plan, attempt(1), judgment(1)))], [[], []]);
  assert.deepEqual(byClass(drawn({ ...going, agentText: "Step 1/2, attempt 1/3" }).root, "itk-speech"), [], "no agent's words");
  assert.ok(byClass(drawn({ ...going, agentText: `Judging\n${"x".repeat(5000)} the end` }).root, "itk-speech")[0].textContent.endsWith(" the end"), "the latest words are shown");
});

test("small copies stand in the rows, whole images in the details", () => {
  const { root } = drawn(runOf(plan, attempt(1)), { open: "1.1" });
  assert.deepEqual(all(root).filter((e) => e.tagName === "IMG").map((e) => e.src), ["/small/step01_attempt01_aaaa0001.png", "/view/interleave/tale/attempts/step01_attempt01_aaaa0001.png"]);
});

test("a click opens an attempt and another one closes it", () => {
  const { root, view } = drawn(runOf(plan, attempt(1), judgment(1), attempt(2)));
  thumbs(root)[0].fire("click");
  assert.equal(byClass(root, "itk-why")[0].textContent, "why 1");
  assert.equal(byClass(root, "itk-next")[0].textContent, "Next prompt: next 1");
  assert.deepEqual(thumbs(root).map((e) => e.getAttribute("aria-pressed")), ["true", "false"]);
  thumbs(root)[0].fire("click");
  assert.deepEqual([view.open, byClass(root, "itk-details")], ["", []]);
});

test("the words that the critic changed are marked in the next attempt's prompt", () => {
  const { root } = drawn(runOf(plan, attempt(1, { prompt: "a red circle" }), attempt(2, { prompt: "a dark red circle" })), { open: "1.2" });
  assert.deepEqual(all(byClass(root, "itk-prompt")[0]).map((e) => [e.tagName, e.textContent]), [["MARK", "dark"]]);
});

test("a person may accept what the critic did not, of a run that can be steered from here", () => {
  const offered = (run, open = "1.1", tools = {}) => hasButton(drawn(run, { open }, tools).root, "Accept this attempt and continue");
  const rejected = runOf(plan, attempt(1), judgment(1));
  assert.ok(offered(rejected));
  assert.ok(offered(runOf(plan, attempt(1), judgment(1, { parsed: false }))));
  assert.ok(!offered(runOf(plan, attempt(1), judgment(1, { accepted: true }))), "the critic did already");
  assert.ok(!offered(runOf(plan, attempt(1, { overridden: true }))), "the person did already");
  assert.ok(!offered({ ...rejected, node: "" }), "no node here made this run");
  assert.ok(!offered(rejected, "1.1", { accept: undefined }));
  const { root, calls } = drawn(rejected, { open: "1.1" });
  buttonOf(root, "Accept this attempt and continue").fire("click");
  assert.deepEqual(calls, [["accept", "tale", 1, 1]]);
});

test("a retry starts with the refined prompt, and what is typed outlives the redraws of a run that goes on", () => {
  const run = runOf(plan, attempt(1), judgment(1));
  const { root, calls, redraw } = drawn(run, { open: "1.1" });
  const area = () => all(root).find((e) => e.tagName === "TEXTAREA");
  assert.equal(area().value, "next 1");
  area().value = "my <b>own</b>";
  area().fire("input");
  redraw(reduce(run, attempt(2)));
  assert.equal(area().value, "my <b>own</b>");
  buttonOf(root, "Retry with this prompt").fire("click");
  assert.deepEqual(calls, [["retry", "tale", 1, "my <b>own</b>"]]);
  thumbs(root)[1].fire("click");
  assert.equal(area().value, "try 2", "another attempt has a prompt of its own");
});

test("keys typed into the prompt stay there: the editor would take them for its shortcuts", () => {
  const { root } = drawn(runOf(plan, attempt(1)), { open: "1.1" });
  let stopped = 0;
  all(root).find((e) => e.tagName === "TEXTAREA").fire("keydown", { stopPropagation: () => stopped++ });
  assert.equal(stopped, 1);
});

test("what has the focus has it after a redraw, and the view stays where it was scrolled to", () => {
  const run = runOf(plan, attempt(1));
  const { root, redraw } = drawn(run);
  const doc = root.ownerDocument;
  thumbs(root)[0].focus();
  root.scrollTop = 70;
  const before = doc.activeElement;
  redraw(reduce(run, judgment(1)));
  assert.notEqual(doc.activeElement, before);
  assert.equal(doc.activeElement, thumbs(root)[0]);
  assert.equal(root.scrollTop, 70);
  const elsewhere = doc.createElement("button");
  elsewhere.dataset.key = thumbs(root)[0].dataset.key; // the same attempt in another view
  elsewhere.focus();
  redraw(run);
  assert.equal(doc.activeElement, elsewhere, "a redraw takes the focus from nobody");
});

test("two attempts are compared side by side", () => {
  const { root } = drawn(runOf(plan, attempt(1), judgment(1), attempt(2), judgment(2, { accepted: true })), { open: "1.1" });
  buttonOf(root, "Compare with another").fire("click");
  assert.equal(byClass(root, "itk-pair").length, 0, "one attempt is no pair");
  thumbs(root)[1].fire("click");
  const [left, right] = byClass(root, "itk-side-by-side");
  assert.deepEqual([left, right].map((e) => byClass(e, "itk-title")[0].textContent), ["Step 1, attempt 1: rejected", "Step 1, attempt 2: accepted"]);
  assert.deepEqual([left, right].map((e) => all(e).filter((m) => m.tagName === "MARK").map((m) => m.textContent)), [[], ["2"]]);
  buttonOf(root, "Close comparison").fire("click");
  assert.equal(byClass(root, "itk-pair").length, 0);
});

test("attempts of earlier runs have a row of their own, and can be looked at but not accepted", () => {
  const line = (n) => JSON.stringify({ step: 1, attempt: n, prompt: `old ${n}`, reference_key: "ref", file: `attempts/step01_attempt0${n}_bbbb000${n}.png`, judgment: { accepted: false, parsed: true } });
  const parent = fromFiles("tale", { trajectory: { plan: PLAN } }, [line(1)]);
  const run = { ...runOf({ ...plan, run: "tale~2" }, attempt(1, { reference: "ref", file: "tale~2/attempts/step01_attempt01_cccc0001.png" })), ancestors: [parent] };
  const { root } = drawn(run);
  assert.deepEqual(byClass(root, "itk-earlier").map(labels), [["Step 1, earlier attempt 1: rejected"]]);
  const [earlier] = thumbs(byClass(root, "itk-earlier")[0]);
  assert.equal(earlier.title, "earlier attempt 1: rejected (tale)");
  earlier.fire("click");
  assert.equal(byClass(root, "itk-prompt")[0].textContent.trim(), "old 1");
  assert.ok(!hasButton(root, "Accept this attempt and continue"));
  assert.deepEqual(thumbs(root).map((e) => e.getAttribute("aria-pressed")), ["false", "true"], "the run's own attempt 1 is another one");
});

test("what can be done with a run stands above it and does what it says", () => {
  const done = [];
  const { root } = drawn(runOf(plan), { open: "" }, { controls: (run) => [["Stop here", () => done.push(run.run)]] });
  buttonOf(root, "Stop here").fire("click");
  assert.deepEqual(done, ["tale"]);
});

test("the document takes the place of the attempts, and back", () => {
  const { root } = drawn(runOf(plan, attempt(1), judgment(1, { accepted: true }), { event: "chosen", step: 1, chosen: 1, accepted: true }));
  buttonOf(root, "Document").fire("click");
  assert.deepEqual([byClass(root, "itk-page").length, byClass(root, "itk-step").length], [1, 0]);
  assert.equal(buttonOf(root, "Document").getAttribute("aria-pressed"), "true");
  buttonOf(root, "Attempts").fire("click");
  assert.deepEqual([byClass(root, "itk-page").length, byClass(root, "itk-step").length], [0, 2]);
});

test("texts of models are text wherever they are drawn, and make no elements", () => {
  const hostile = '<img src=x onerror="window.hit=1"><script>hit()</script>[a](javascript:hit())';
  const withTexts = (text) => {
    const steps = { execution_plan: [{ step_number: 1, prompt: text, auxiliary_text: text }] };
    const texts = { accepted: false, parsed: false, reasoning: text, refined_prompt: text, note: text };
    return {
      ...runOf({ ...plan, run: text, plan: steps }, attempt(1, { prompt: text, file: "tale/attempts/a.png" }), { ...judgment(1), judgment: texts }, attempt(2, { prompt: text, file: "tale/attempts/b.png" }), { event: "chosen", step: 1, chosen: 1, accepted: false }),
      run: text,
      agentText: text,
      reason: text,
    };
  };
  for (const view of [{ open: "1.1" }, { open: "1.2", base: "1.1" }, { open: "", page: true }]) {
    const shape = (run) => all(drawn(run, { ...view }).root).map((e) => e.tagName);
    const { root } = drawn(withTexts(hostile), { ...view });
    const active = shape(withTexts(hostile)).filter((kind) => ["SCRIPT", "A", "IFRAME", "STYLE"].includes(kind));
    assert.deepEqual(active, []);
    assert.deepEqual(shape(withTexts(hostile)), shape(withTexts("one")), "whatever a text says, the page has the same elements");
    assert.ok(root.textContent.includes("<script>"), "the text is there, as it was written");
    const urls = all(root).filter((e) => e.tagName === "IMG").map((e) => e.src);
    assert.ok(urls.every((url) => /^\/(view|small)\//.test(url)), "an image's address comes from its file alone");
  }
});

test("a very long text is cut: a page of a megabyte would stand still", () => {
  const long = "x".repeat(1_000_000);
  const { root } = drawn(runOf(plan, attempt(1, { prompt: long }), judgment(1, { reasoning: long, refined_prompt: long, note: long })), { open: "1.1" });
  assert.ok(root.textContent.length < 20_000, `${root.textContent.length} characters`);
  assert.ok(byClass(root, "itk-why")[0].textContent.endsWith("…"));
});

test("the tiny critic's shorthand is a sentence, with what it wrote as the title; other critics' reasons are as they are", () => {
  const said = "before sheet after medium black circle center white wanted medium red circle center white so ok bad ok ok ok";
  for (const [reasoning, shown, title] of [[said, "Saw a black circle; wanted a red one.", said], ["Too blue.", "Too blue.", undefined]]) {
    const run = runOf(plan, attempt(1), judgment(1, { reasoning }), attempt(2), judgment(2, { reasoning: "" }));
    const views = [drawn(run, { open: "1.1" }), drawn(run, { open: "1.2", base: "1.1" })];
    for (const { root } of views) {
      const [line] = byClass(root, "itk-why");
      assert.equal(line.textContent, shown);
      assert.equal(line.title || undefined, title);
    }
  }
});
