/** The plan, shown on Planner and Plan from Text. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeById, rootOf, widgetOf } from "./graph.mjs";
import { button } from "./elements.mjs";
import { firstNumber, outline, toCards } from "./plan.mjs";
import { EVENTS, EVENT_TYPE, NODE_IDS } from "./contract.mjs";
import { PLAN_WIDGET, lastPlans, onPlan, openPlanEditor, parsePlan, planOnly, rememberPlan, setPlan } from "./plan_nodes.mjs";

const panels = new WeakMap();

async function draw(node) {
  const panel = panels.get(node);
  if (!panel) return;
  const typed = String(widgetOf(node, PLAN_WIDGET[node.type])?.value ?? "").trim();
  const { plan, error } = typed ? await parsePlan(typed) : { plan: lastPlans.get(node) ?? null, error: "" };
  const cards = toCards(plan);
  panel.list.replaceChildren(
    ...outline(cards, firstNumber(plan)).map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }),
  );
  const isPlanner = node.type === NODE_IDS.planner;
  const summary = isPlanner && typed ? "Your edited plan is used; the agent is not asked." : plan ? (cards.length === 1 ? "1 step" : `${cards.length} steps`) : "No plan yet.";
  panel.note.textContent = error || summary;
  panel.note.classList.toggle("itk-note-bad", Boolean(error));
  panel.back.hidden = !(isPlanner && typed);
}

function addPanel(node) {
  const root = document.createElement("div");
  root.className = "itk itk-in-node itk-planview";
  const bar = document.createElement("div");
  bar.className = "itk-tabs";
  const note = document.createElement("div");
  note.className = "itk-facts";
  note.setAttribute("role", "status");
  const list = document.createElement("ol");
  list.className = "itk-outline";
  const back = button(document, "Let the agent plan again", () => setPlan(node, ""));
  back.hidden = true;
  if (node.comfyClass === NODE_IDS.planner) bar.append(button(document, "Plan only", () => planOnly(node)));
  bar.append(button(document, "Edit plan…", () => openPlanEditor(node)), back);
  root.append(bar, note, list);
  panels.set(node, { root, note, list, back });
  return root;
}

app.registerExtension({
  name: "InterleaveThinker.plan",
  setup() {
    onPlan(draw);
    api.addEventListener(EVENT_TYPE, ({ detail }) => {
      if (detail?.event !== EVENTS.planned) return;
      const here = !detail.workflow || detail.workflow === rootOf(app)?.id;
      const node = here ? nodeById(rootOf(app), detail.node) : null;
      if (!node || !PLAN_WIDGET[node.type]) return;
      rememberPlan(node, detail.plan);
    });
  },
  nodeCreated(node) {
    if (!PLAN_WIDGET[node.comfyClass]) return;
    const widget = widgetOf(node, PLAN_WIDGET[node.comfyClass]);
    if (node.comfyClass === NODE_IDS.planner && widget) hide(widget);
    node.addDOMWidget("plan_view", "interleave_plan", addPanel(node), {
      serialize: false,
      hideOnZoom: true,
      getMinHeight: () => 110,
      getValue: () => "",
      setValue: () => {},
    });
    if (!widget) return;
    const callback = widget.callback;
    let waiting = 0;
    widget.callback = function (...args) {
      clearTimeout(waiting);
      waiting = setTimeout(() => draw(node), 300);
      return callback?.apply(this, args);
    };
    setTimeout(() => draw(node), 0); // its values come after it was created
  },
  loadedGraphNode(node) {
    if (PLAN_WIDGET[node.comfyClass ?? node.type]) draw(node);
  },
});

/** The text lives in its widget, so that it is saved and shared; people edit it as cards. */
function hide(widget) {
  widget.hidden = true;
  widget.options = { ...widget.options, hidden: true };
  widget.computeSize = () => [0, -4];
  if (widget.element) widget.element.hidden = true;
}
