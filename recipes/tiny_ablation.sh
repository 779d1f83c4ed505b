#!/usr/bin/env bash
# Which parts of the method matter, on the tiny world: every row of the table, each training once a seed.
#   bash recipes/tiny.sh OUT && bash recipes/tiny_ablation.sh OUT     as many seeds at a time as there are WORKERS
#   SFT_STEPS=5 GRPO_STEPS=2 EVAL_REQUESTS=3 SEEDS=0 ROWS="raw generator" bash recipes/tiny_ablation.sh TRIAL
set -euo pipefail
OUT=${1:?folder of recipes/tiny.sh}
SFT_STEPS=${SFT_STEPS:-250} GRPO_STEPS=${GRPO_STEPS:-30} EVAL_REQUESTS=${EVAL_REQUESTS:-60}
SEEDS=${SEEDS:-0,1,2} ROWS=${ROWS:-} WORKERS=${WORKERS:-2}
I=${INTERLEAVE:-interleave-thinker}
WEIGHTS=$(cd "$(dirname "$0")/.." && pwd)/interleave_thinker/tinyworld/weights
START=${START:-$WEIGHTS/base}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

$I data export "$OUT/data" --format trl --source critic.jsonl --name unfiltered_sft --prompts "$WEIGHTS/critic/prompts" --on-accept empty
cat "$OUT/data/planner_sft.jsonl" "$OUT/data/critic_sft.jsonl" > "$OUT/data/both_sft.jsonl"
ablate=("$I" ablate --base "$START" --data "$OUT/data" --out "$OUT/ablate" --requests "$EVAL_REQUESTS"
  --sft-steps "$SFT_STEPS" --grpo-steps "$GRPO_STEPS" --grpo-rate 1e-5 --generator-dtype bfloat16 ${ROWS:+--rows "$ROWS"} --resume)
xargs -P "$WORKERS" -I SEED "${ablate[@]}" --seeds SEED <<< "${SEEDS//,/$'\n'}"
"${ablate[@]}" --seeds "$SEEDS"
