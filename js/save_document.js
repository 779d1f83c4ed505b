/** Save Document: buttons that open, print and download the document that the node saved. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { NODE_IDS } from "./contract.mjs";
import { createDocumentFiles } from "./document_files.mjs";
import { button } from "./elements.mjs";
import { rootOf, showToast, widgetOf } from "./graph.mjs";

const files = createDocumentFiles(api, (severity, detail) => showToast(app, severity, detail));
/** The run that each node saved last. */
const saved = new WeakMap();

/** The run of a node: what it saved, else the last run of the open workflow, as after a reload; "" if there is none. */
async function runOf(node) {
  if (saved.has(node)) return saved.get(node);
  const workflow = String(rootOf(app)?.id ?? "");
  const reply = await api.fetchApi("/interleave_thinker/runs", { cache: "no-store" });
  const runs = reply.ok ? await reply.json() : [];
  return runs.find((run) => workflow && run.origin?.workflow === workflow)?.name ?? "";
}

async function asked(node) {
  const run = await runOf(node);
  const value = (name) => widgetOf(node, name)?.value;
  return { run, format: "html", layout: value("layout") ?? "story", details: Boolean(value("details")), workflow: Boolean(value("workflow_in_page")), title: String(value("title") ?? ""), language: String(value("language") ?? "") };
}

function addButtons(node) {
  const root = document.createElement("div");
  root.className = "itk itk-in-node itk-tabs";
  root.style.alignItems = "center";
  for (const [label, act] of [["Open", files.open], ["Print or PDF", files.print], ["Download HTML", files.download]]) {
    root.append(button(document, label, () => act(asked(node))));
  }
  return root;
}

app.registerExtension({
  name: "InterleaveThinker.document",
  nodeCreated(node) {
    if (node.comfyClass !== NODE_IDS.save_document) return;
    node.addDOMWidget("document_buttons", "interleave_document", addButtons(node), {
      serialize: false,
      hideOnZoom: true,
      getMinHeight: () => 34,
      getMaxHeight: () => 34,
      getValue: () => "",
      setValue: () => {},
    });
    const onExecuted = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
      const run = output?.interleave_document?.[0]?.run;
      if (run) saved.set(node, String(run));
      return onExecuted?.call(this, output, ...rest);
    };
  },
});
