#!/usr/bin/env bash
# Qwen3-VL-8B on 8 GPUs of 80 GB. Not run by this project, which has no such machine. tests/comfy/test_recipe_8b.py runs
# this file on two CPU processes (DeepSpeed ZeRO-3, two ComfyUI servers) with a checkpoint that has the 8B's names and tiny
# dimensions. Read docs/training.md first: what lies on each GPU, where ComfyUI runs, hours and cost.
#   MODEL=models/Qwen3-VL-8B-Instruct TEACHER=endpoint:gemini JUDGE=endpoint:gemini bash recipes/8b.sh OUT
set -euo pipefail
OUT=${1:?folder for everything}
MODEL=${MODEL:?a Qwen3-VL-8B-Instruct folder} TEACHER=${TEACHER:?who plans, criticises and writes vocabulary} JUDGE=${JUDGE:?who scores}
COUNT=${COUNT:-40000}
WORKFLOW=${WORKFLOW:-workflow_draw.json} EDIT=${EDIT:-workflow_edit.json}
SERVERS=${SERVERS:-"http://127.0.0.1:8188 http://127.0.0.1:8189"}
HERE=$(cd "$(dirname "$0")" && pwd)
I=interleave-thinker
LAUNCH="accelerate launch --config_file $HERE/accelerate_8gpu.yaml -m interleave_thinker.cli"
AT=(); for s in $SERVERS; do AT+=(--server "$s"); done

# Data: requests, trajectories over all ComfyUI servers, scores, filter, exports.
$I data prompts --agent "$TEACHER" --count "$COUNT" --out "$OUT/requests" --resume
$I data trajectories "$OUT/requests/requests.jsonl" --planner "$TEACHER" --critic "$TEACHER" --generator comfyui \
  --workflow "$WORKFLOW" --edit-workflow "$EDIT" "${AT[@]}" --ray --t-max 5 --out "$OUT/made" --resume
$I data from-runs "$OUT/made/runs" --store "$OUT/made/store" --out "$OUT/data" --resume
$I data score "$OUT/data" --judge "$JUDGE" --workers 16 --resume
$I data filter "$OUT/data" --resume
$I data planner "$OUT/data" --cuts 1 --resume
$I data export "$OUT/data" --format trl --format rl

# SFT of both agents (the paper's values), then GRPO of the critic (our reward; grpo_paper.yaml has the paper's).
for role in planner critic; do
  $LAUNCH sft $role --model "$MODEL" --data "$OUT/data" --out "$OUT/$role-sft" --config "$HERE/sft_8b.yaml" --resume
done
# The reward's generator calls go to the ComfyUI servers; vLLM writes the responses in the training's own processes.
$LAUNCH grpo --model "$OUT/critic-sft/model" --data "$OUT/data" --out "$OUT/critic-rl" --config "$HERE/grpo_8b.yaml" \
  --generator comfyui --workflow "$WORKFLOW" --edit-workflow "$EDIT" "${AT[@]}" --ray --judge "$JUDGE" --resume

# Back to ComfyUI: folders for Load Agent (models/VLM), or one file for Load CLIP (models/text_encoders).
$I adapters export-comfy "$OUT/planner-sft/model" --out "$OUT/planner.safetensors" --resume
$I adapters export-comfy "$OUT/critic-rl/model" --out "$OUT/critic.safetensors" --resume
# Or both as adapters of the model that they began with, for Agent from CLIP (models/loras).
$I adapters extract "$MODEL" "$OUT/planner-sft/model" --rank 64 --out "$OUT/planner_lora.safetensors" --resume
$I adapters extract "$MODEL" "$OUT/critic-rl/model" --rank 64 --out "$OUT/critic_lora.safetensors" --resume
