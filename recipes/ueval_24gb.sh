#!/usr/bin/env bash
# UEval on one GPU of 24 GB: planner and critic behind a local server, your ComfyUI workflow as the generator, a hosted
# judge. About 22 hours and $90 by the arithmetic in docs/benchmarks.md; no GPU has confirmed it. The same line goes on
# where it stopped.
#   PLANNER=endpoint:local CRITIC=endpoint:local JUDGE=endpoint:gemini WORKFLOW=draw.json EDIT=edit.json \
#     DATA=ueval_test.parquet bash recipes/ueval_24gb.sh OUT
#   LIMIT=50 ...                    the first 50 requests only
#   SYSTEMS="no-critic full" ...    the planner alone as well: 11 hours and $90 more
#   GENERATOR=FOLDER ...            a diffusers folder instead of a workflow
set -euo pipefail
OUT=${1:?folder for everything}
DATA=${DATA:?the split test of zlab-princeton/UEval, .parquet or JSON lines}
PLANNER=${PLANNER:?who plans} CRITIC=${CRITIC:?who criticises} JUDGE=${JUDGE:?who scores}
GENERATOR=${GENERATOR:-comfyui} T_MAX=${T_MAX:-3} LIMIT=${LIMIT:-1000} SYSTEMS=${SYSTEMS:-full}
I=${INTERLEAVE:-interleave-thinker}
DRAW=()
if [ "$GENERATOR" = comfyui ]; then
  DRAW=(--workflow "${WORKFLOW:?your text-to-image workflow in API format}" --edit-workflow "${EDIT:?the one that edits}")
fi

RUNS=()
for system in $SYSTEMS; do
  $I bench ueval generate --data "$DATA" --out "$OUT/$system" --system $system --planner "$PLANNER" --critic "$CRITIC" \
    --generator "$GENERATOR" "${DRAW[@]}" --t-max "$T_MAX" --limit "$LIMIT" --yes
  $I bench ueval judge --data "$DATA" --out "$OUT/$system" --judge "$JUDGE" --workers 8 --yes
  RUNS+=("$OUT/$system")
done
$I bench ueval report "${RUNS[@]}" --data "$DATA" --out "$OUT"
