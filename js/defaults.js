/** Settings: the start values of new and wrapped nodes. A saved workflow holds its own values; settings never change it. */
import { app } from "../../scripts/app.js";
import { widgetOf } from "./graph.mjs";

const OURS = "InterleaveThinker";
const AGENTS = ["AgentFromCLIP", "LoadAgent", "AgentFromServer"].map((name) => OURS + name);

/** Widget by node type, and the setting that it starts with. */
const STARTS = [
  [[`${OURS}LoopClose`], "t_max", `${OURS}.TMax`],
  [[`${OURS}LoopClose`], "gate", `${OURS}.Gate`],
  [AGENTS, "max_megapixels", `${OURS}.MaxMegapixels`],
];

app.registerExtension({
  name: `${OURS}.defaults`,
  settings: [
    { id: `${OURS}.Agent`, name: "Agent for wrapped workflows", type: "text", defaultValue: "", tooltip: "clip:FILE, folder:NAME or server:NAME. Empty: a Qwen3-VL text encoder that is installed, else a model folder." },
    { id: `${OURS}.TMax`, name: "T_max of new loops", type: "number", defaultValue: 3, attrs: { min: 1, max: 50 }, tooltip: "How often the generator may try one step." },
    { id: `${OURS}.Gate`, name: "Gate of new loops", type: "combo", options: ["off", "stop_after_step", "stop_on_reject"], defaultValue: "off", tooltip: "End the run after each new step or rejection; queue again to go on." },
    { id: `${OURS}.MaxMegapixels`, name: "Pixel budget of new agents", type: "number", defaultValue: 1, attrs: { min: 0.1, max: 16, step: 0.1 }, tooltip: "Megapixels of each picture that an agent is shown." },
  ],
  /** Before a saved node gets its own values. */
  nodeCreated(node) {
    for (const [types, name, setting] of STARTS) {
      const widget = types.includes(node.comfyClass) ? widgetOf(node, name) : null;
      const value = widget ? app.extensionManager?.setting?.get?.(setting) : null;
      if (value !== null && value !== undefined) widget.value = typeof widget.value === "number" ? Number(value) : value;
    }
  },
});
