/** The live view: on each Loop Close, and in the sidebar tab "Interleave" for the last run or a saved one. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { changing, idOf, nodeById, pathTo, rootOf, setWidget, tell as tellIn, widgetOf } from "./graph.mjs";
import { emptyRun, fromFiles, pictureOf, runOf } from "./live.mjs";
import { edit, planNodeOf, rewrite } from "./plan_nodes.mjs";
import { changed } from "./plan.mjs";
import { createRuns } from "./runs.mjs";
import { drawRun } from "./strip.mjs";
import { STYLE } from "./style.mjs";
import { createThumbs } from "./thumbs.mjs";

const EVENT = "interleave_thinker";
const CLOSE = "InterleaveThinkerLoopClose";

const runs = createRuns();
const places = new Set();
const asked = new Set();

function pictureUrl(place) {
  return api.apiURL(`/view?${new URLSearchParams(place)}`);
}

async function savedFile(run, filename) {
  const place = pictureOf(`${run}/${filename}`);
  const reply = await api.fetchApi(`/view?${new URLSearchParams(place)}`, { cache: "no-store" });
  return reply.ok ? reply.text() : "";
}

/** What a run's folder says, through ComfyUI's own file route; null where there is none, or it cannot be read now. */
async function savedRun(name) {
  try {
    const [state, lines] = await Promise.all([savedFile(name, "run.json"), savedFile(name, "trajectory.jsonl")]);
    if (!state) return null;
    const run = { ...fromFiles(name, JSON.parse(state), lines.split("\n")), ancestors: [] };
    run.ancestors = await savedAncestors(run);
    return run.status === "running" && !(await isBusy(run.workflow)) ? { ...run, status: "interrupted" } : run;
  } catch {
    return null;
  }
}

const DEEPEST = 30;

/** The runs that a run branched from, the nearest first, as far as their folders are there. */
async function savedAncestors(run) {
  const found = [];
  for (let name = run.parent; name && name !== run.run && found.length < DEEPEST && !found.some((r) => r.run === name); ) {
    const [state, lines] = await Promise.all([savedFile(name, "run.json"), savedFile(name, "trajectory.jsonl")]);
    if (!state) break;
    const parent = fromFiles(name, JSON.parse(state), lines.split("\n"));
    found.push(parent);
    name = parent.parent;
  }
  return found;
}

/** Whether the server runs this workflow now: a run that a crash ended still says "running" in its folder. */
async function isBusy(workflow) {
  const reply = await api.fetchApi("/queue", { cache: "no-store" });
  if (!reply.ok) return false;
  const running = (await reply.json()).queue_running;
  return running.some(([, , , extra]) => String(extra?.extra_pnginfo?.workflow?.id ?? "") === workflow);
}

function openWorkflowId() {
  return String(rootOf(app)?.id ?? "");
}

function redraw() {
  for (const place of places) {
    if (place.owner?.graph && pathTo(rootOf(app), place.owner.graph) === null) places.delete(place);
    else if (place.root.isConnected || !place.mounted) draw(place);
  }
}

const PAUSE = 250; // ms between two drawings of a view: a run may have thirty events a second

/**
 * Draw a view, soon and not too often. Not while a person writes in it or has a button down: what is drawn anew would
 * take an unfinished word or click away.
 */
function draw(place) {
  if (place.waiting) return;
  place.waiting = setTimeout(() => {
    place.waiting = 0;
    const active = document.activeElement;
    const writing = active?.tagName === "TEXTAREA" && place.root.contains(active);
    if (writing || place.root.querySelector(":active")) draw(place);
    else drawRun(place.root, place.run(), place.view, tools);
  }, Math.max(0, PAUSE - (Date.now() - (place.drawn ?? 0))));
  place.drawn = Date.now();
}

const tell = (severity, detail) => tellIn(app, severity, detail);

/** The Loop Close that a run belongs to, if it is in the open workflow. */
function closeOf(run) {
  const mine = run.workflow && run.workflow === openWorkflowId();
  const node = mine && run.node ? nodeById(rootOf(app), run.node) : null;
  return node?.type === CLOSE ? node : null;
}

/** Verdicts of the person on steps before `step` stay; later ones were about pictures that are made anew. */
function picksBefore(node, step) {
  const picks = String(widgetOf(node, "accept_attempts")?.value ?? "").split(",").map((pick) => pick.trim());
  return picks.filter((pick) => pick && Number(pick.split(":")[0]) < step);
}

/** Take an attempt against the critic: written down in the node's own widget, and the prompt is queued again. */
async function accept(run, step, attempt) {
  const node = closeOf(run);
  if (!node) return tell("warn", "The node of this run is not in the open workflow. Open its workflow first.");
  await changing(app, () => setWidget(node, "accept_attempts", [...picksBefore(node, step), `${step}:${attempt}`].join(", ")));
  runs.accept(run.run, step, attempt);
  redraw();
  app.queuePrompt(0);
}

/** Change the plan of a run and go on: steps that did not change are recalled. */
async function replan(run, step, change) {
  const node = closeOf(run);
  const holder = planNodeOf(node);
  if (!holder) return tell("warn", "The plan of this run does not come from a Planner or Plan from Text beside its loop.");
  try {
    await rewrite(holder, run.plan, change);
    setWidget(node, "accept_attempts", picksBefore(node, step).join(", "));
    app.queuePrompt(0);
  } catch (error) {
    tell("error", error.message);
  }
}

function retry(run, step, prompt) {
  if (!prompt.trim()) return tell("warn", "Write a prompt first.");
  return replan(run, step, (cards) => changed(cards, step - 1, { prompt, textOnly: false }));
}

async function editRest(run) {
  const holder = planNodeOf(closeOf(run));
  if (!holder) return tell("warn", "The plan of this run does not come from a Planner or Plan from Text beside its loop.");
  if (await edit(holder, run.plan)) app.queuePrompt(0);
}

async function openWorkflow(run) {
  try {
    const text = await savedFile(run.run, "workflow.json");
    if (!text) return tell("warn", "This run has no workflow with it: it was queued without the editor.");
    await app.loadGraphData(JSON.parse(text), true, true, run.run.split("/").pop());
  } catch (error) {
    tell("error", `The workflow of this run cannot be opened: ${error.message}`);
  }
}

/** What can be done with a run now, as [label, act]. Each that goes on queues the workflow as it is. */
function controls(run) {
  const here = Boolean(closeOf(run));
  const list = [];
  const busy = Boolean(run.current) || run.status === "running";
  const finished = run.steps.filter((step) => step.chosen || step.prompt === null).length;
  if (here && busy) list.push(["Stop here", () => api.interrupt(run.prompt || null)]);
  if (here && !busy && run.steps.length && run.status !== "done") {
    list.push(["Go on", () => app.queuePrompt(0)]);
    list.push(["Edit the rest of the plan…", () => editRest(run)]);
    if (finished > 0) list.push(["End with these steps", () => replan(run, finished + 1, (cards) => cards.slice(0, finished))]);
  }
  if (here && run.status === "done") list.push(["Edit the plan…", () => editRest(run)]);
  if (run.run && !busy) list.push(["Open its workflow", () => openWorkflow(run)]);
  return list;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    tell("success", "Copied.");
  } catch {
    tell("warn", "The browser does not allow copying here.");
  }
}

/** Print a copy of an element alone, from a frame without scripts of its own. */
function print(page) {
  const frame = document.createElement("iframe");
  frame.style.cssText = "position: fixed; width: 0; height: 0; border: 0";
  frame.title = "Document to print";
  document.body.append(frame);
  const doc = frame.contentDocument;
  const style = doc.createElement("style");
  style.textContent = "body { font: 12pt/1.5 serif; } img { max-width: 100%; page-break-inside: avoid; } details { display: none; }";
  doc.head.append(style);
  doc.body.append(doc.importNode(page, true));
  const pictures = [...doc.images].map((image) => {
    image.loading = "eager";
    if (image.complete) return null;
    return new Promise((ready) => ["load", "error"].forEach((kind) => image.addEventListener(kind, ready, { once: true })));
  });
  Promise.all(pictures).then(() => {
    frame.contentWindow.print();
    setTimeout(() => frame.remove(), 60_000);
  });
}

const small = createThumbs(redraw);
const tools = { pictureUrl, thumbUrl: (place) => small(pictureUrl(place)), accept, retry, controls, copy, print };

/** `owner`: the node that shows its run; null for the sidebar. */
function addPlace(owner) {
  const root = document.createElement("div");
  root.className = "itk";
  const run = () => (owner ? runs.of(openWorkflowId(), idOf(rootOf(app), owner)) : runs.shown(openWorkflowId()));
  const place = { owner, root, run, view: { open: "" }, mounted: false };
  places.add(place);
  drawRun(root, owner ? emptyRun() : run(), place.view, tools);
  new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && draw(place)).observe(root);
  return place;
}

/** One after the other, even where one has to wait for a file: what a folder says must not be put after later events. */
let heard = Promise.resolve();
function inTurn(act) {
  heard = heard.then(act).catch((error) => console.error(error));
}

async function take(facts) {
  if (facts.event === "planned") return;
  const [node, workflow] = [String(facts.node ?? ""), String(facts.workflow ?? "")];
  const name = facts.file ? runOf(facts.file) : "";
  if (facts.event !== "plan" && name && runs.of(workflow, node).run !== name && !asked.has(name)) {
    asked.add(name); // this tab came later than the run: its folder has what was said before
    const before = await savedRun(name);
    if (before) runs.put({ ...before, node, workflow });
    else asked.delete(name);
  }
  runs.hear(facts);
  redraw();
  if (facts.event === "plan" && facts.parent) {
    runs.descend(String(facts.run ?? ""), await savedAncestors({ run: String(facts.run ?? ""), parent: String(facts.parent) }));
    redraw();
  }
}

/** Nothing runs on the server any more. How a run ended may have been said while this page was not connected. */
async function settle() {
  for (const { run, node, workflow } of runs.busy()) {
    const saved = run ? await savedRun(run) : null;
    if (saved) runs.put({ ...saved, node, workflow });
  }
  runs.end("interrupted");
  redraw();
}

/** What an agent of ours writes. Other nodes write texts as well. */
function hearText(detail) {
  const node = detail?.nodeId && detail.text ? nodeById(rootOf(app), detail.nodeId) : null;
  if (!node?.type?.startsWith("InterleaveThinker")) return;
  runs.speak(String(detail.text));
  redraw();
}

function drawSidebar(element) {
  const place = addPlace(null);
  const bar = document.createElement("div");
  bar.className = "itk-runs";
  const list = document.createElement("select");
  list.setAttribute("aria-label", "Saved runs");
  list.addEventListener("change", async () => {
    const found = list.value ? await savedRun(list.value) : null;
    if (list.value && !found) return tell("warn", "This run's folder cannot be read.");
    runs.pick(found && { ...found, node: nodeOf(found) });
    redraw();
  });
  list.addEventListener("focus", () => fillRuns(list));
  bar.append(list);
  runs.pick(null); // as the new list says
  element.classList.add("itk-side");
  element.replaceChildren(bar, place.root);
  Object.assign(element.style, { display: "flex", flexDirection: "column", height: "100%" });
  place.mounted = true;
  fillRuns(list);
  return () => places.delete(place);
}

/** The node that a saved run can be steered through, if the open workflow made it. */
function nodeOf(run) {
  return run.origin?.workflow && run.origin.workflow === openWorkflowId() ? String(run.origin.node ?? "") : "";
}

/** The last run of the workflow that was opened, as its folder has it: a page that was reloaded goes on with it. */
async function showLast() {
  const id = openWorkflowId();
  const entry = id ? (await listRuns()).find((saved) => saved.origin?.workflow === id) : null;
  const found = entry && !runs.has(id, entry.origin.node) ? await savedRun(entry.name) : null;
  if (!found || openWorkflowId() !== id) return;
  runs.put({ ...found, node: String(entry.origin.node), workflow: id });
  redraw();
}

async function listRuns() {
  const reply = await api.fetchApi("/interleave_thinker/runs", { cache: "no-store" });
  return reply.ok ? reply.json() : [];
}

async function fillRuns(list) {
  const names = await listRuns();
  const first = new Option(names.length ? "The last run here" : "No saved runs", "");
  const chosen = list.value;
  list.replaceChildren(first, ...names.map((entry) => new Option(entry.title ? `${entry.title.slice(0, 60)} — ${entry.name}` : entry.name, entry.name)));
  if ([...list.options].some((option) => option.value === chosen)) list.value = chosen;
}

// Not in setup(): a page that is opened while a loop runs is told of it, and of its end, before.
api.addEventListener(EVENT, (event) => inTurn(() => take(event.detail ?? {})));
for (const [kind, status] of [["execution_interrupted", "interrupted"], ["execution_error", "failed"]]) {
  api.addEventListener(kind, () =>
    inTurn(() => {
      runs.end(status);
      redraw();
    }),
  );
}
// Errors are told to the tab that queued; that nothing runs any more, to all of them.
api.addEventListener("status", ({ detail }) => {
  if (detail?.exec_info?.queue_remaining === 0) inTurn(settle);
});

let leaveSidebar = () => {};

app.registerExtension({
  name: "InterleaveThinker.view",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    api.addEventListener("progress_text", (event) => hearText(event.detail));
    app.extensionManager?.registerSidebarTab?.({
      id: "interleave-thinker",
      icon: "pi pi-images",
      title: "Interleave",
      tooltip: "Attempts, verdicts and prompts of the interleave loop",
      type: "custom",
      render: (element) => {
        leaveSidebar();
        leaveSidebar = drawSidebar(element);
      },
      destroy: () => leaveSidebar(),
    });
  },
  afterConfigureGraph() {
    redraw();
    inTurn(showLast);
  },
  nodeCreated(node) {
    if (node.comfyClass !== CLOSE) return;
    const place = addPlace(node);
    place.root.classList.add("itk-in-node");
    node.addDOMWidget("live", "interleave_live", place.root, {
      serialize: false,
      hideOnZoom: true,
      getMinHeight: () => 160,
      getValue: () => "",
      setValue: () => {},
    });
    place.mounted = true;
    const removed = node.onRemoved;
    node.onRemoved = function (...given) {
      places.delete(place);
      return removed?.apply(this, given);
    };
  },
});
