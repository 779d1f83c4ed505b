#!/usr/bin/env bash
# The tiny world's planner and critic as low-rank adapters of one base, as the package holds them.
#   bash recipes/tiny_adapters.sh OUT CRITIC     CRITIC: a whole critic that was trained from the base (recipes/tiny.sh:
#                                                OUT/agents/critic). An hour on two CPU cores; the same line goes on.
#   LOOP=64 MORE=64 CRITIC_STEPS=3 PLANNER_STEPS=3 MORE_STEPS=2 EVAL_REQUESTS=3 bash recipes/tiny_adapters.sh TRIAL CRITIC
set -euo pipefail
OUT=${1:?folder for everything} CRITIC=${2:?a whole critic}
LOOP=${LOOP:-5000} MORE=${MORE:-650} EVAL_REQUESTS=${EVAL_REQUESTS:-200}
CRITIC_STEPS=${CRITIC_STEPS:-480}
PLANNER_STEPS=${PLANNER_STEPS:-600} MORE_STEPS=${MORE_STEPS:-300}
I=${INTERLEAVE:-interleave-thinker}
WEIGHTS=$(cd "$(dirname "$0")/.." && pwd)/interleave_thinker/tinyworld/weights
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

# 2. The critic: what its layers and words have more than the base's, as far as rank 64 holds it; then the pairs learn the
# whole critic's replies to attempts, so that they make up for what was dropped.
[ -f "$OUT/extracted.safetensors" ] || $I adapters extract "$BASE" "$CRITIC" --rank 64 --out "$OUT/extracted.safetensors"
$I tinyworld attempts --critic "$CRITIC" --out "$OUT/loop" --count "$LOOP" --seed 501
$I tinyworld attempts --out "$OUT/more" --count "$MORE" --seed 901
$I tinyworld train critic --start-from "$BASE" --lora-rank 64 --teacher "$CRITIC" --attempts "$OUT/loop" "$OUT/more" \
  --start-adapter "$OUT/extracted.safetensors" --batch 16 --compare-every 25 --learning-rate 6e-4 --steps "$CRITIC_STEPS" \
  --seed 31 --out "$OUT/adapters"
wait "$planner"

# 3. How good they are, and how often the critic's verdict is the whole critic's.
cp -r "$BASE" "$OUT/adapters/base"
cp -r "$WEIGHTS/generator" "$OUT/adapters/generator"
$I tinyworld eval --requests "$EVAL_REQUESTS" --seed 2026 --t-max 1,3,5 --weights "$OUT/adapters" --json "$OUT/eval.json"
