/** Our workflows in the gallery: in the alphabet's order, and opened where they begin. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { OPENING, PREFIX } from "./contract.mjs";

/** ComfyUI lists a folder's files as the disk has them. Their names are such that the alphabet puts first what runs anywhere. */
function sortOurs() {
  const list = api.getWorkflowTemplates;
  if (typeof list !== "function") return;
  const folder = decodeURIComponent(new URL(import.meta.url).pathname.split("/extensions/")[1]?.split("/")[0] ?? "");
  api.getWorkflowTemplates = async function (...args) {
    const found = await list.apply(this, args);
    return Array.isArray(found?.[folder]) ? { ...found, [folder]: [...found[folder]].sort() } : found;
  };
}

/** The editor shrinks a template to fit the window. Ours begin at the note, readable, and go on to the right. */
function showBeginning() {
  const extra = app.graph?.extra;
  if (!extra?.[OPENING]) return;
  delete extra[OPENING]; // what a user saves opens as it was left
  const { scale, offset } = extra.ds ?? {};
  if (!(scale > 0) || offset?.length !== 2) return;
  requestAnimationFrame(() => {
    app.canvas.ds.scale = scale;
    [app.canvas.ds.offset[0], app.canvas.ds.offset[1]] = offset;
    app.canvas.setDirty(true, true);
  });
}

app.registerExtension({
  name: `${PREFIX}.templates`,
  setup: sortOurs,
  afterConfigureGraph: showBeginning,
});
