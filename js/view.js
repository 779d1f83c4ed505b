/** Connects the live view to ComfyUI: on each Loop Close, and in the sidebar tab "Interleave". `strip.mjs` draws it. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { EVENTS, EVENT_TYPE, NODE_IDS, PLACED_ID, PREFIX } from "./contract.mjs";
import { createDocumentFiles } from "./document_files.mjs";
import { checkMachine, drawCheck, emptyCheck } from "./doctor.mjs";
import { allNodes, asOneUndoStep, idOf, nodeById, pathTo, rootOf, setWidget, showToast, widgetOf } from "./graph.mjs";
import { emptyRun, fromFiles, imageLocation, runOf } from "./run_state.mjs";
import { openPlanEditor, planNodeOf, rememberPlan, rewritePlan } from "./plan_nodes.mjs";
import { changed } from "./plan.mjs";
import { button } from "./elements.mjs";
import { openAskedRun } from "./open_run.mjs";
import { createRuns } from "./runs.mjs";
import { placeOfError } from "./error_toast.js";
import { savedRunLabel } from "./saved_runs.mjs";
import { CONTINUE, drawRun } from "./strip.mjs";
import { STYLE } from "./style.mjs";
import { createThumbs } from "./thumbs.mjs";
import { atNode, failedAtOnce, justSent, waitsOf, withPlan, withText, writtenBy } from "./wait.mjs";

const PLACED = new RegExp(PLACED_ID);
const runs = createRuns();
const panels = new Set();
/** Runs that were read from their folders, because their first event came late. */
const loadedRuns = new Set();

function imageUrl(location) {
  return api.apiURL(`/view?${new URLSearchParams(location)}`);
}

async function savedFile(run, filename) {
  const location = imageLocation(`${run}/${filename}`);
  const reply = await api.fetchApi(`/view?${new URLSearchParams(location)}`, { cache: "no-store" });
  return reply.ok ? reply.text() : "";
}

/** A run as its folder holds it, read through ComfyUI's own file route; null where it cannot be read now. */
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
  for (const panel of panels) {
    if (panel.owner?.graph && pathTo(rootOf(app), panel.owner.graph) === null) panels.delete(panel);
    else if (panel.root.isConnected || !panel.mounted) draw(panel);
  }
}

const PAUSE = 250; // ms between two drawings of a view: a run may have thirty events a second

/**
 * Draw a view, soon and not too often. Not while a person writes in it or has a button down: what is drawn anew would
 * take an unfinished word or click away.
 */
function draw(panel) {
  if (panel.waiting) return;
  panel.waiting = setTimeout(() => {
    panel.waiting = 0;
    const active = document.activeElement;
    const writing = active?.tagName === "TEXTAREA" && panel.root.contains(active);
    if (writing || panel.root.querySelector(":active")) draw(panel);
    else drawRun(panel.root, panel.run(), panel.view, tools);
  }, Math.max(0, PAUSE - (Date.now() - (panel.drawn ?? 0))));
  panel.drawn = Date.now();
}

const toast = (severity, detail) => showToast(app, severity, detail);

/** The Loop Close that a run belongs to, if it is in the open workflow. */
function loopCloseOf(run) {
  const mine = run.workflow && run.workflow === openWorkflowId();
  const node = mine && run.node ? nodeById(rootOf(app), run.node) : null;
  return node?.type === NODE_IDS.loop_close ? node : null;
}

/** Verdicts of the person on steps before `step` stay; later ones were about pictures that are made anew. */
function picksBefore(node, step) {
  const picks = String(widgetOf(node, "accept_attempts")?.value ?? "").split(",").map((pick) => pick.trim());
  return picks.filter((pick) => pick && Number(pick.split(":")[0]) < step);
}

/** Accept an attempt against the critic: write it into the node's own widget and queue the prompt again. */
async function accept(run, step, attempt) {
  const node = loopCloseOf(run);
  if (!node) return toast("warn", "The node of this run is not in the open workflow. Open its workflow first.");
  await asOneUndoStep(app, () => setWidget(node, "accept_attempts", [...picksBefore(node, step), `${step}:${attempt}`].join(", ")));
  runs.accept(run.run, step, attempt);
  redraw();
  queueAgain();
}

const NO_NEWS = 3000; // ms after which a prompt that was sent is given up: ComfyUI refused it, or nothing of it is ours

/** Queue the workflow. Until ComfyUI tells of it, the buttons of the run before are gone: they would act on its old plan. */
async function queueAgain() {
  const sent = justSent(openWorkflowId());
  showWait(sent);
  try {
    await app.queuePrompt(0);
  } finally {
    setTimeout(() => wait === sent && showWait(null), NO_NEWS);
  }
}

/** Change the plan of a run and go on: steps that did not change are recalled. */
async function replan(run, step, change) {
  const node = loopCloseOf(run);
  const planNode = planNodeOf(node);
  if (!planNode) return toast("warn", "The plan of this run does not come from a Planner or Plan from Text beside its loop.");
  try {
    await rewritePlan(planNode, run.plan, change);
    setWidget(node, "accept_attempts", picksBefore(node, step).join(", "));
    queueAgain();
  } catch (error) {
    toast("error", error.message);
  }
}

function retry(run, step, prompt) {
  if (!prompt.trim()) return toast("warn", "Write a prompt first.");
  return replan(run, step, (cards) => changed(cards, step - 1, { prompt, textOnly: false }));
}

async function editRest(run) {
  const planNode = planNodeOf(loopCloseOf(run));
  if (!planNode) return toast("warn", "The plan of this run does not come from a Planner or Plan from Text beside its loop.");
  if (await openPlanEditor(planNode, run.plan)) queueAgain();
}

/** tab: a name for a new one, or the workflow whose place it takes. */
async function openWorkflow(run, tab = run.run.split("/").pop()) {
  try {
    const text = await savedFile(run.run, "workflow.json");
    if (!text) return toast("warn", "This run has no workflow with it: it was queued without the editor.");
    await app.loadGraphData(JSON.parse(text), true, true, tab);
  } catch (error) {
    toast("error", `The workflow of this run cannot be opened: ${error.message}`);
  }
}

/** What can be done with a run now, as [label, act]. Each that goes on queues the workflow as it is. */
function controls(run) {
  const here = Boolean(loopCloseOf(run));
  const list = [];
  if (run.waiting && !run.waiting.error) return run.waiting.running ? [["Stop here", () => api.interrupt(run.waiting.prompt)]] : [];
  const busy = Boolean(run.current) || run.status === "running";
  const finished = run.steps.filter((step) => step.chosen || step.prompt === null).length;
  if (here && busy) list.push(["Stop here", () => api.interrupt(run.prompt || null)]);
  if (here && !busy && run.steps.length && run.status !== "done") {
    list.push([CONTINUE, queueAgain]);
    list.push(["Edit the rest of the plan…", () => editRest(run)]);
    if (finished > 0) list.push(["Finish here", () => replan(run, finished + 1, (cards) => cards.slice(0, finished))]);
  }
  if (here && run.status === "done") list.push(["Edit the plan…", () => editRest(run)]);
  if (run.run && !busy) list.push(["Open its workflow", () => openWorkflow(run)]);
  return list;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("success", "Copied.");
  } catch {
    toast("warn", "The browser does not allow copying here.");
  }
}

const documentFiles = createDocumentFiles(api, toast);
const thumbs = createThumbs(redraw);
const tools = { imageUrl, thumbUrl: (location) => thumbs(imageUrl(location)), accept, retry, controls, copy, ...documentFiles };

/** `owner`: the node that shows its run; null for the sidebar. */
function addPanel(owner) {
  const root = document.createElement("div");
  root.className = "itk";
  const run = () => {
    const id = owner ? idOf(rootOf(app), owner) : "";
    const found = owner ? runs.of(openWorkflowId(), id) : runs.shown(openWorkflowId());
    return { ...found, waiting: owner || !runs.isPicked() ? waitHere(id) : null };
  };
  const panel = { owner, root, run, view: { open: "" }, mounted: false };
  panels.add(panel);
  drawRun(root, owner ? emptyRun() : run(), panel.view, tools);
  new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && draw(panel)).observe(root);
  return panel;
}

/** Events are handled one after the other, even where one waits for a file: else a folder's state would overwrite later events. */
let lastTurn = Promise.resolve();
function inTurn(act) {
  lastTurn = lastTurn.then(act).catch((error) => console.error(error));
}

async function handleEvent(message) {
  if (message.event === EVENTS.planned) {
    if (String(message.prompt_id) === wait?.prompt) showWait(withPlan(wait, message.plan?.execution_plan?.length ?? 0));
    return;
  }
  const [node, workflow] = [String(message.node ?? ""), String(message.workflow ?? "")];
  const name = message.file ? runOf(message.file) : "";
  if (message.event !== EVENTS.plan && name && runs.of(workflow, node).run !== name && !loadedRuns.has(name)) {
    loadedRuns.add(name); // this tab is younger than the run: the run's folder has the earlier events
    const before = await savedRun(name);
    if (before) runs.addSaved({ ...before, node, workflow });
    else loadedRuns.delete(name);
  }
  runs.addEvent(message);
  if (wait && !wait.prompt && !wait.error && workflow === wait.workflow) wait = null;
  redraw();
  if (isIdle && runs.busy().length) await handleIdleServer();
  if (message.event === EVENTS.plan) showPlan(runs.of(workflow, node));
  if (message.event === EVENTS.plan || message.event === EVENTS.done) fillRuns();
  if (message.event === EVENTS.plan && message.parent) {
    runs.setAncestors(String(message.run ?? ""), await savedAncestors({ run: String(message.run ?? ""), parent: String(message.parent) }));
    redraw();
  }
}

/** Whether the server has said that nothing runs. A run's last events may come after that: they wait for its files. */
let isIdle = false;

/** Nothing runs on the server any more. This page may have missed the end of a run, so it reads the run's folder. */
async function handleIdleServer() {
  isIdle = true;
  for (const { run, node, workflow } of runs.busy()) {
    const saved = run ? await savedRun(run) : null;
    if (saved) runs.addSaved({ ...saved, node, workflow });
  }
  runs.end("interrupted");
  if (!wait?.error) wait = null;
  redraw();
  fillRuns();
}

/** Text that an agent of the pack streams. Other nodes send such texts as well. */
function handleAgentText(detail) {
  const id = String(detail?.nodeId ?? "");
  const kind = wait?.nodes[id] ?? nodeById(rootOf(app), id)?.type;
  if (!(kind?.startsWith(PREFIX) || PLACED.test(id)) || !writtenBy(detail?.text)) return;
  if (wait?.running) wait = withText(wait, id, detail.text);
  runs.setAgentText(String(detail.text));
  redraw();
}

/** The prompt of this editor's that was queued last and has not told of its loop; null where there is none. */
let wait = null;
/** The node that ComfyUI began last. */
let atWork = "";

function showWait(next) {
  wait = next;
  redraw();
}

/** What a view waits for. node: of the view's Loop Close; "" for the sidebar. */
function waitHere(node) {
  if (!wait || wait.workflow !== openWorkflowId() || (node && wait.prompt && !(node in wait.nodes))) return null;
  return wait.error || !wait.prompt || !runs.hasBegun(wait.prompt) ? wait : null;
}

/** ComfyUI's queue is what tells every page, a second tab too, what it waits for. */
async function readQueue() {
  isIdle = false;
  const reply = await api.fetchApi("/queue", { cache: "no-store" });
  const waits = reply.ok ? waitsOf(await reply.json()) : [];
  const next = waits.find((found) => found.workflow === openWorkflowId()) ?? waits[0] ?? null;
  const known = next && wait?.prompt === next.prompt ? { ...wait, running: next.running } : next;
  const tells = wait && (wait.error || !wait.prompt); // an error, or a prompt that is not in the queue any more
  if (next || !tells) showWait(known?.running ? atNode(known, atWork) : known);
}

/** ComfyUI ended what ran: by a person, or by an error, which belongs to the loop or to a node before it. */
function handleEnd(status, reason, detail) {
  const prompt = String(detail?.prompt_id ?? "");
  const isBefore = !runs.hasBegun(prompt);
  runs.end(status, reason, prompt);
  if (isBefore && wait?.prompt === prompt) wait = reason ? { ...wait, error: reason } : null;
  else if (isBefore && reason && isOurs()) wait = failedAtOnce(prompt, openWorkflowId(), reason); // before /queue was read
  redraw();
}

/** Whether the open workflow has a loop or a planner of ours. */
function isOurs() {
  return allNodes(rootOf(app)).some((node) => [NODE_IDS.loop_close, NODE_IDS.planner].includes(node.type));
}

/** A run's plan stands on its Planner too, also where the plan came from the cache or the page was reloaded. */
function showPlan(run) {
  const planNode = planNodeOf(loopCloseOf(run));
  if (planNode && run.plan) rememberPlan(planNode, run.plan);
}

/** The check that is under way or was last made; it outlives the sidebar's being closed. */
const check = { ...emptyCheck(), stopped: false, root: null };

function showCheck(change) {
  Object.assign(check, emptyCheck(), change);
  if (check.root) drawCheck(check.root, check, checkTools);
}

async function askServer(path, body) {
  const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await api.fetchApi(path, sent || { cache: "no-store" });
  const text = await reply.text();
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    throw new Error(`ComfyUI answers ${path} with ${reply.status}.`);
  }
}

const checkTools = {
  ask: askServer,
  tell: (text) => showCheck({ text }),
  stopped: () => check.stopped,
  pause: (ms) => new Promise((go) => setTimeout(go, ms)),
  now: () => Date.now(),
  stop: () => {
    check.stopped = true;
    showCheck({ text: "Stopping" });
  },
  close: () => showCheck({}),
  copy: (text) => copy(text),
};

async function startCheck() {
  if (check.text) return;
  check.stopped = false;
  showCheck({ text: "Looking at the workflow" });
  try {
    const workflow = (await app.graphToPrompt()).output;
    const seed = Math.floor(Math.random() * 2 ** 32);
    const sections = await checkMachine(workflow, seed, checkTools);
    showCheck({ sections: sections.reverse() }); // what to change is last on a terminal; here it is read first
  } catch (error) {
    showCheck({ error: error.message });
  }
}

function drawSidebar(element) {
  const panel = addPanel(null);
  const bar = document.createElement("div");
  bar.className = "itk-runs";
  const list = document.createElement("select");
  list.setAttribute("aria-label", "Saved runs");
  list.addEventListener("change", async () => {
    const found = list.value ? await savedRun(list.value) : null;
    if (list.value && !found) return toast("warn", "This run's folder cannot be read.");
    runs.pick(found && { ...found, node: nodeOf(found) });
    redraw();
  });
  list.addEventListener("focus", fillRuns);
  runList = list;
  const begin = button(document, "Check this machine", startCheck);
  begin.title = "Takes up to three minutes: asks the agent of this workflow, makes three pictures, and says what to change. Nothing is saved.";
  bar.append(list, begin);
  check.root = document.createElement("section");
  check.root.className = "itk-check";
  check.root.setAttribute("aria-label", "Check of this machine");
  drawCheck(check.root, check, checkTools);
  runs.pick(null); // as the new list says
  element.classList.add("itk-side");
  element.replaceChildren(bar, check.root, panel.root);
  Object.assign(element.style, { display: "flex", flexDirection: "column", height: "100%" });
  panel.mounted = true;
  fillRuns();
  return () => {
    panels.delete(panel);
    runList = null;
  };
}

/** The node that a saved run can be steered through, if the open workflow made it. */
function nodeOf(run) {
  return run.origin?.workflow && run.origin.workflow === openWorkflowId() ? String(run.origin.node ?? "") : "";
}

/** The last run of the workflow that was opened, as its folder has it: a page that was reloaded goes on with it. */
async function showLast() {
  const id = openWorkflowId();
  for (const run of runs.all()) if (run.workflow === id) showPlan(run);
  const entry = id ? (await listRuns()).find((saved) => saved.origin?.workflow === id) : null;
  const found = entry && !runs.has(id, entry.origin.node) ? await savedRun(entry.name) : null;
  if (!found || openWorkflowId() !== id) return;
  const run = { ...found, node: String(entry.origin.node), workflow: id };
  runs.addSaved(run);
  showPlan(run);
  redraw();
}

async function listRuns() {
  const reply = await api.fetchApi("/interleave_thinker/runs", { cache: "no-store" });
  return reply.ok ? reply.json() : [];
}

/** The list of saved runs in the sidebar, if that was opened. */
let runList = null;

async function fillRuns() {
  const list = runList;
  if (!list) return;
  const names = await listRuns();
  const first = new Option(names.length ? "Latest run" : "No saved runs", "");
  const chosen = list.value;
  list.replaceChildren(first, ...names.map((entry) => new Option(savedRunLabel(entry), entry.name)));
  if ([...list.options].some((option) => option.value === chosen)) list.value = chosen;
}

// Not in setup(): a page that is opened while a loop runs receives its events, and its end, before that.
api.addEventListener(EVENT_TYPE, (event) => inTurn(() => handleEvent(event.detail ?? {})));
for (const [kind, status] of [["execution_interrupted", "interrupted"], ["execution_error", "failed"]]) {
  api.addEventListener(kind, ({ detail }) => {
    const reason = status === "failed" ? placeOfError(detail) : ""; // now: which nodes run is forgotten soon
    inTurn(() => handleEnd(status, reason, detail));
  });
}
// ComfyUI sends errors to the tab that queued, and an empty queue to all tabs.
api.addEventListener("status", ({ detail }) => {
  const left = detail?.exec_info?.queue_remaining;
  if (left === 0) inTurn(handleIdleServer);
  else if (left > 0) inTurn(readQueue);
});

const SIDEBAR = "interleave-thinker";
let leaveSidebar = () => {};

app.registerExtension({
  name: "InterleaveThinker.view",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    api.addEventListener("execution_start", () => {
      atWork = "";
      if (wait?.error) showWait(null);
    });
    api.addEventListener("executing", ({ detail }) => {
      atWork = String(detail ?? atWork);
      if (wait?.running && !runs.hasBegun(wait.prompt)) showWait(atNode(wait, atWork));
    });
    api.addEventListener("progress_text", (event) => handleAgentText(event.detail));
    app.extensionManager?.registerSidebarTab?.({
      id: SIDEBAR,
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
    const openSidebar = () => {
      const open = app.extensionManager.sidebarTab?.activeSidebarTab?.id === SIDEBAR;
      if (!open) app.extensionManager.command.execute(`Workspace.ToggleSidebarTab.${SIDEBAR}`);
    };
    openAskedRun(app, {
      openSidebar,
      list: () => document.querySelector(".itk-runs select"),
      openWorkflow: (name, tab) => openWorkflow({ run: name }, tab),
      warn: (text) => toast("warn", text),
    });
  },
  afterConfigureGraph() {
    redraw();
    inTurn(showLast);
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE_IDS.loop_close) return;
    const panel = addPanel(node);
    panel.root.classList.add("itk-in-node");
    node.addDOMWidget("live", "interleave_live", panel.root, {
      serialize: false,
      hideOnZoom: true,
      getMinHeight: () => 160,
      getValue: () => "",
      setValue: () => {},
    });
    panel.mounted = true;
    const onRemoved = node.onRemoved;
    node.onRemoved = function (...args) {
      panels.delete(panel);
      return onRemoved?.apply(this, args);
    };
  },
});
