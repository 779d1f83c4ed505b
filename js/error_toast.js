/** Shows which node, step and attempt an error inside a loop belongs to. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeById, rootOf } from "./graph.mjs";
import { describeError, firstLine, noProgress, withMessage } from "./error_location.mjs";

let progress = noProgress();

function titleOf(id) {
  return nodeById(rootOf(app), id)?.title ?? "a node of the body";
}

/** An error of ComfyUI as one line for a person: the node, and inside a loop its step and attempt. */
export function placeOfError(error) {
  const title = nodeById(rootOf(app), error?.node_id)?.title ?? error?.node_type ?? "ComfyUI";
  return describeError(progress, error, titleOf) || `${title}: ${firstLine(error?.exception_message)}`;
}

app.registerExtension({
  name: "InterleaveThinker.place",
  setup() {
    for (const kind of ["execution_start", "executing", "progress_state"]) {
      api.addEventListener(kind, (event) => {
        progress = withMessage(progress, kind, event.detail);
      });
    }
    api.addEventListener("execution_error", (event) => {
      const detail = describeError(progress, event.detail, titleOf);
      if (detail) {
        app.extensionManager?.toast?.add({ severity: "error", summary: "Interleave loop", detail, life: 15000 });
      }
    });
  },
});
