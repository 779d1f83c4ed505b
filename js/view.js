/** The live view: on each Loop Close, and in the sidebar tab "Interleave" for the last run or a saved one. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { emptyRun, fromFiles, pictureOf, reduce } from "./live.mjs";
import { STYLE, drawRun } from "./strip.mjs";

const EVENT = "interleave_thinker";
const CLOSE = "InterleaveThinkerLoopClose";

/** Runs by the node that shows them; "" is the last one, for the sidebar. */
const runs = new Map();
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

/** What a run's folder says, through ComfyUI's own file route; null where there is none. */
async function savedRun(name) {
  const [state, lines] = await Promise.all([savedFile(name, "run.json"), savedFile(name, "trajectory.jsonl")]);
  try {
    return state ? fromFiles(name, JSON.parse(state), lines.split("\n")) : null;
  } catch {
    return null;
  }
}

function show(node, run) {
  runs.set(node, run);
  runs.set("", run);
  redraw();
}

function redraw() {
  for (const place of places) {
    if (!place.root.isConnected && place.mounted) continue;
    drawRun(place.root, runs.get(place.node) ?? emptyRun(), place.view, tools);
  }
}

/** Take an attempt against the critic: written down in the node's own widget, and the prompt is queued again. */
function accept(run, step, attempt) {
  const node = app.graph?.getNodeById?.(Number(run.node)) ?? app.graph?.getNodeById?.(run.node);
  const widget = node?.widgets?.find((w) => w.name === "accept_attempts");
  if (!widget) return tell("warn", "The node of this run is not in the open workflow.");
  const others = String(widget.value ?? "").split(",").map((p) => p.trim()).filter((p) => p && !p.startsWith(`${step}:`));
  widget.value = [...others, `${step}:${attempt}`].join(", ");
  app.graph.setDirtyCanvas?.(true, true);
  app.queuePrompt(0);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    tell("success", "Copied.");
  } catch {
    tell("warn", "The browser does not allow copying here.");
  }
}

function tell(severity, detail) {
  app.extensionManager?.toast?.add({ severity, summary: "Interleave", detail, life: 5000 });
}

const tools = { pictureUrl, accept, copy };

function addPlace(node) {
  const root = document.createElement("div");
  root.className = "itk";
  const place = { node, root, view: { open: "" }, mounted: false };
  places.add(place);
  drawRun(root, runs.get(node) ?? emptyRun(), place.view, tools);
  return place;
}

async function hear(facts) {
  const node = String(facts.node ?? "");
  const known = runs.get(node);
  const name = facts.file ? String(facts.file).split("/")[0] : "";
  if (facts.event !== "plan" && name && known?.run !== name && !asked.has(name)) {
    asked.add(name); // this tab came later than the run: its folder has what was said before
    const before = await savedRun(name);
    if (before) runs.set(node, { ...before, node });
  }
  show(node, reduce(runs.get(node) ?? emptyRun(), facts));
}

function hearText(detail) {
  const node = String(detail?.nodeId ?? "");
  const run = runs.get("");
  if (!run?.current || !node || !detail?.text) return;
  runs.set("", { ...run, speech: String(detail.text) });
  if (runs.has(run.node)) runs.set(run.node, runs.get(""));
  redraw();
}

function drawSidebar(element) {
  const place = addPlace("");
  const bar = document.createElement("div");
  bar.className = "itk-runs";
  const list = document.createElement("select");
  list.setAttribute("aria-label", "Saved runs");
  list.addEventListener("change", async () => {
    const found = list.value && (await savedRun(list.value));
    if (found) {
      runs.set("", { ...found, node: nodeOf(list.value) });
      redraw();
    }
  });
  list.addEventListener("focus", () => fillRuns(list));
  bar.append(list);
  element.classList.add("itk-side");
  element.replaceChildren(bar, place.root);
  Object.assign(element.style, { display: "flex", flexDirection: "column", height: "100%" });
  place.mounted = true;
  fillRuns(list);
  return () => places.delete(place);
}

/** The node that a run was heard from in this tab, so that it can be steered; "" for one from the disk alone. */
function nodeOf(name) {
  return [...runs.values()].find((run) => run.run === name && run.node)?.node ?? "";
}

async function fillRuns(list) {
  const reply = await api.fetchApi("/interleave_thinker/runs", { cache: "no-store" });
  const names = reply.ok ? await reply.json() : [];
  const first = new Option(names.length ? "Saved runs…" : "No saved runs", "");
  list.replaceChildren(first, ...names.map((entry) => new Option(entry.title ? `${entry.title.slice(0, 60)} — ${entry.name}` : entry.name, entry.name)));
}

let leaveSidebar = () => {};

app.registerExtension({
  name: "InterleaveThinker.view",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    api.addEventListener(EVENT, (event) => hear(event.detail ?? {}));
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
  nodeCreated(node) {
    if (node.comfyClass !== CLOSE) return;
    const place = addPlace("");
    // A node gets its id after it was created, and another one when a workflow is loaded.
    Object.defineProperty(place, "node", { get: () => String(node.id) });
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
