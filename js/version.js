/** Warns where the editor is too old for this pack's pages. The nodes themselves work all the same. */
import { app } from "../../scripts/app.js";
import { showToast } from "./graph.mjs";

const OLDEST = [1, 47];

app.registerExtension({
  name: "InterleaveThinker.version",
  setup() {
    const version = String(window.__COMFYUI_FRONTEND_VERSION__ ?? "");
    const [major, minor] = version.split(".").map(Number);
    if (!Number.isFinite(minor) || major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
    showToast(app, "warn", `This editor (${version}) is older than ${OLDEST.join(".")}: live view, wrap and plan editor may not work. Update comfyui-frontend-package.`, 20000);
  },
});
