#!/usr/bin/env bash
# The tiny world from nothing: base -> data -> SFT -> GRPO -> table. Stops and goes on where it was (give it again).
#   bash recipes/tiny.sh OUT            everything, about three hours of two CPU cores; minutes on a GPU
#   REQUESTS=40 BASE_STEPS=20 SFT_STEPS=5 GRPO_STEPS=2 ROWS="raw generator" SEEDS=0 bash recipes/tiny.sh TRIAL    a trial, in a folder of its own
set -euo pipefail
OUT=${1:?folder for everything}
REQUESTS=${REQUESTS:-2400} BASE_STEPS=${BASE_STEPS:-1500} SFT_STEPS=${SFT_STEPS:-800} GRPO_STEPS=${GRPO_STEPS:-60}
SEEDS=${SEEDS:-0,1,2} EVAL_REQUESTS=${EVAL_REQUESTS:-100} ROWS=${ROWS:-}
I=${INTERLEAVE:-interleave-thinker}
HERE=$(cd "$(dirname "$0")/.." && pwd)
PROMPTS=$HERE/interleave_thinker/tinyworld/weights/critic/prompts
mkdir -p "$OUT"

# 1. What all trainings start from: sees rendered pictures, plans short stories, knows nothing of generated pictures.
[ -d "$OUT/base/base" ] || $I tinyworld train base --out "$OUT/base" --steps "$BASE_STEPS" --seed 3

# 2. Requests with right plans; the real tiny generator; a critic that knows the truth, as a hosted teacher would.
$I data prompts --world tiny --count "$REQUESTS" --seed 11 --out "$OUT/requests" --resume
$I data trajectories "$OUT/requests/requests.jsonl" --critic tiny:oracle --generator tiny --t-max 5 --out "$OUT/made" --resume

# 3. Records, scores, filter, exports. Steps that needed a retry vary most, so RL takes a tenth of all steps, not a third.
$I data from-runs "$OUT/made/runs" --store "$OUT/made/store" --out "$OUT/data" --resume
$I data score "$OUT/data" --judge checker --label-by score --min-semantics 10 --min-quality 5 --resume
$I data filter "$OUT/data" --rl-share 0.1 --resume
$I data planner "$OUT/data" --cuts 0 --resume
$I data export "$OUT/data" --format trl --format rl --prompts "$PROMPTS" --on-accept empty
$I data export "$OUT/data" --format trl --source critic.jsonl --name unfiltered_sft --prompts "$PROMPTS" --on-accept empty
cat "$OUT/data/planner_sft.jsonl" "$OUT/data/critic_sft.jsonl" > "$OUT/data/both_sft.jsonl"

# 4. SFT of both agents, GRPO of the critic, every row of the table: each once a seed.
$I ablate --base "$OUT/base/base" --data "$OUT/data" --out "$OUT/ablate" --seeds "$SEEDS" --requests "$EVAL_REQUESTS" \
  --sft-steps "$SFT_STEPS" --grpo-steps "$GRPO_STEPS" ${ROWS:+--rows "$ROWS"} --resume
