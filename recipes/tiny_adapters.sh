#!/usr/bin/env bash
# The tiny world's planner and critic as low-rank adapters of one base, as the package holds them.
#   bash recipes/tiny_adapters.sh OUT [CRITIC]   CRITIC: a whole critic that was trained from the base (recipes/tiny.sh:
#                                                OUT/agents/critic), by default tests/whole_critic. Half an hour on two
#                                                CPU cores; the same line goes on.
#   PLANNER_STEPS=3 MORE_STEPS=2 EVAL_REQUESTS=3 bash recipes/tiny_adapters.sh TRIAL
set -euo pipefail
HERE=$(cd "$(dirname "$0")/.." && pwd)
OUT=${1:?folder for everything} CRITIC=${2:-$HERE/tests/whole_critic}
EVAL_REQUESTS=${EVAL_REQUESTS:-200}
PLANNER_STEPS=${PLANNER_STEPS:-600} MORE_STEPS=${MORE_STEPS:-300}
I=${INTERLEAVE:-interleave-thinker}
WEIGHTS=$HERE/interleave_thinker/tinyworld/weights
BASE=${BASE:-$WEIGHTS/base}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # a core for each of what runs at a time
mkdir -p "$OUT"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT # what runs beside does not outlive a failure

# 1. The planner, beside the critic: its pairs begin at nothing and learn the right plans of random requests.
planner() {
  $I tinyworld train planner --start-from "$BASE" --lora-rank 32 --steps "$PLANNER_STEPS" --out "$OUT/planner-1"
  $I tinyworld train planner --start-from "$BASE" --lora-rank 32 --start-adapter "$OUT/planner-1/planner/adapter.safetensors" \
    --steps "$MORE_STEPS" --learning-rate 1e-3 --seed 1 --out "$OUT/adapters"
}
planner > "$OUT/planner.log" &
planner=$!

# 2. The critic: what its layers have more than the base's, as far as rank 64 holds it; nothing is trained.
mkdir -p "$OUT/adapters"
[ -d "$OUT/adapters/critic" ] || cp -r "$CRITIC" "$OUT/adapters/critic"
rm -f "$OUT/adapters/critic/model.safetensors"
$I adapters extract "$BASE" "$CRITIC" --rank 64 --out "$OUT/adapters/critic/adapter.safetensors" --resume
wait "$planner"

# 3. How good they are.
cp -r "$BASE" "$OUT/adapters/base"
cp -r "$WEIGHTS/generator" "$OUT/adapters/generator"
$I tinyworld eval --requests "$EVAL_REQUESTS" --seed 2026 --t-max 1,3,5 --weights "$OUT/adapters" --json "$OUT/eval.json"
