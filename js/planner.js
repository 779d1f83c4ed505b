/** The plan, shown on Planner and Plan from Text. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeById, rootOf, widgetOf } from "./graph.mjs";
import { button } from "./page.mjs";
import { firstNumber, outline, toCards } from "./plan.mjs";
import { HOLDS, PLANNER, edit, onPlan, planOnly, planned, read, setPlan } from "./plan_nodes.mjs";

const shown = new WeakMap();

async function draw(node) {
  const place = shown.get(node);
  if (!place) return;
  const typed = String(widgetOf(node, HOLDS[node.type])?.value ?? "").trim();
  const { plan, error } = typed ? await read(typed) : { plan: planned.get(node) ?? null, error: "" };
  const cards = toCards(plan);
  place.list.replaceChildren(
    ...outline(cards, firstNumber(plan)).map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }),
  );
  const isPlanner = node.type === PLANNER;
  const said = isPlanner && typed ? "Your edited plan is used; the agent is not asked." : plan ? `${cards.length} steps` : "No plan yet.";
  place.note.textContent = error || said;
  place.note.classList.toggle("itk-reason", Boolean(error));
  place.back.hidden = !(isPlanner && typed);
}

function addPlace(node) {
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
  if (node.comfyClass === PLANNER) bar.append(button(document, "Plan only", () => planOnly(node)));
  bar.append(button(document, "Edit plan…", () => edit(node)), back);
  root.append(bar, note, list);
  shown.set(node, { root, note, list, back });
  return root;
}

app.registerExtension({
  name: "InterleaveThinker.plan",
  setup() {
    onPlan(draw);
    api.addEventListener("interleave_thinker", ({ detail }) => {
      if (detail?.event !== "planned") return;
      const here = !detail.workflow || detail.workflow === rootOf(app)?.id;
      const node = here ? nodeById(rootOf(app), detail.node) : null;
      if (!node || !HOLDS[node.type]) return;
      planned.set(node, detail.plan);
      draw(node);
    });
  },
  nodeCreated(node) {
    if (!HOLDS[node.comfyClass]) return;
    const widget = widgetOf(node, HOLDS[node.comfyClass]);
    if (node.comfyClass === PLANNER && widget) hide(widget);
    node.addDOMWidget("plan_view", "interleave_plan", addPlace(node), {
      serialize: false,
      hideOnZoom: true,
      getMinHeight: () => 110,
      getValue: () => "",
      setValue: () => {},
    });
    if (!widget) return;
    const callback = widget.callback;
    let waiting = 0;
    widget.callback = function (...given) {
      clearTimeout(waiting);
      waiting = setTimeout(() => draw(node), 300);
      return callback?.apply(this, given);
    };
    setTimeout(() => draw(node), 0); // its values come after it was created
  },
  loadedGraphNode(node) {
    if (HOLDS[node.comfyClass ?? node.type]) draw(node);
  },
});

/** The text lives in its widget, so that it is saved and shared; people edit it as cards. */
function hide(widget) {
  widget.hidden = true;
  widget.options = { ...widget.options, hidden: true };
  widget.computeSize = () => [0, -4];
  if (widget.element) widget.element.hidden = true;
}
