/** Settings: the start values of new and wrapped nodes. A saved workflow holds its own values; settings never change it. */
import { app } from "../../scripts/app.js";
import { GATES, MAX_MEGAPIXELS, NODE_IDS, PREFIX, T_MAX, T_MAX_LIMIT } from "./contract.mjs";
import { widgetOf } from "./graph.mjs";

const AGENTS = [NODE_IDS.agent_from_clip, NODE_IDS.load_agent, NODE_IDS.agent_from_server];

/** Widget by node type, and the setting that it starts with. */
const STARTS = [
  [[NODE_IDS.loop_close], "t_max", `${PREFIX}.TMax`],
  [[NODE_IDS.loop_close], "gate", `${PREFIX}.Gate`],
  [AGENTS, "max_megapixels", `${PREFIX}.MaxMegapixels`],
];

app.registerExtension({
  name: `${PREFIX}.defaults`,
  settings: [
    { id: `${PREFIX}.Agent`, name: "Agent for wrapped workflows", type: "text", defaultValue: "", tooltip: "clip:FILE, folder:NAME or server:NAME. Empty: the workflow's own CLIP where that can plan and judge, else an installed text encoder that can, else a model folder." },
    { id: `${PREFIX}.TMax`, name: "T_max of new loops", type: "number", defaultValue: T_MAX, attrs: { min: 1, max: T_MAX_LIMIT }, tooltip: "How often the generator may try one step." },
    { id: `${PREFIX}.Gate`, name: "Gate of new loops", type: "combo", options: GATES, defaultValue: GATES[0], tooltip: "End the run after each new step or rejection; queue again to go on." },
    { id: `${PREFIX}.MaxMegapixels`, name: "Pixel budget of new agents", type: "number", defaultValue: MAX_MEGAPIXELS, attrs: { min: 0.1, max: 16, step: 0.1 }, tooltip: "Megapixels of each picture that an agent is shown." },
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
