/** Shows which node, step and attempt an error inside a loop belongs to. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { describeError, noProgress, withMessage } from "./error_location.mjs";

let progress = noProgress();

function titleOf(id) {
  const node = app.graph?.getNodeById?.(Number(id)) ?? app.graph?.getNodeById?.(id);
  return node?.title ?? "a node of the body";
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
