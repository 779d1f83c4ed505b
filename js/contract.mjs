// Made from interleave_thinker/contract.py, which says what each means. Do not edit: see there.
export const PREFIX = "InterleaveThinker";
export const NODE_IDS = {
  "agent_from_clip": "InterleaveThinkerAgentFromCLIP",
  "load_agent": "InterleaveThinkerLoadAgent",
  "agent_from_server": "InterleaveThinkerAgentFromServer",
  "planner": "InterleaveThinkerPlanner",
  "plan_from_text": "InterleaveThinkerPlanFromText",
  "loop_open": "InterleaveThinkerLoopOpen",
  "critic_refine": "InterleaveThinkerCriticRefine",
  "judgment": "InterleaveThinkerJudgment",
  "loop_close": "InterleaveThinkerLoopClose",
  "save_document": "InterleaveThinkerSaveDocument",
  "check_agent": "InterleaveThinkerCheckAgent"
};
export const LOOP_OPEN_OUTPUTS = [
  "loop",
  "prompt",
  "reference",
  "has_reference",
  "instruction",
  "seed",
  "step",
  "attempt"
];
export const OPENING = "interleave_thinker_opening";
export const EVENT_TYPE = "interleave_thinker";
export const EVENTS = {
  "planned": "planned",
  "plan": "plan",
  "warning": "warning",
  "trying": "trying",
  "attempt": "attempt",
  "judgment": "judgment",
  "chosen": "chosen",
  "done": "done"
};
export const WRITING = [
  "Planning",
  "Judging",
  "Comparing",
  "Checking"
];
export const PLACED_ID = "\\.s(\\d+)[ajcr](\\d+)\\.";
export const GATES = [
  "off",
  "stop_after_step",
  "stop_on_reject"
];
export const T_MAX = 3;
export const T_MAX_LIMIT = 50;
export const MAX_STEPS = 20;
export const MAX_MEGAPIXELS = 1.0;
export const CHECK_RESULT = "interleave_check";
export const PICTURE_RESULT = "interleave_picture";
export const PACKAGED_CLIP = "qwen3vl_8b_fp8_scaled.safetensors";
export const PACKAGED_CLIP_URL = "https://huggingface.co/Comfy-Org/Qwen3-VL/resolve/main/text_encoders/qwen3vl_8b_fp8_scaled.safetensors";
