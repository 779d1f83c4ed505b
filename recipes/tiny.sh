#!/usr/bin/env bash
# The tiny world: data, SFT of both agents, GRPO of the critic, and how good they are, from the base model of the package.
#   bash recipes/tiny.sh OUT       everything, on two CPU cores. The same line goes on where it stopped.
#   REQUESTS=40 LESSONS=100 MORE=64 LOOP=64 PLANNER_STEPS=5 CRITIC_STEPS=5 SECOND_STEPS=5 GRPO_STEPS=2 EVAL_REQUESTS=3 \
#     bash recipes/tiny.sh TRIAL                 whether it runs
#   BASE_STEPS=1500 bash recipes/tiny.sh OUT     the base as well
#   START=FOLDER bash recipes/tiny.sh OUT        from a model of your own
set -euo pipefail
OUT=${1:?folder for everything}
REQUESTS=${REQUESTS:-1600} LESSONS=${LESSONS:-26000} MORE=${MORE:-12000} LOOP=${LOOP:-3000} WORKERS=${WORKERS:-2}
PLANNER_STEPS=${PLANNER_STEPS:-600} CRITIC_STEPS=${CRITIC_STEPS:-2200} SECOND_STEPS=${SECOND_STEPS:-1100}
GRPO_STEPS=${GRPO_STEPS:-60}
EVAL_REQUESTS=${EVAL_REQUESTS:-200}
I=${INTERLEAVE:-interleave-thinker}
WEIGHTS=$(cd "$(dirname "$0")/.." && pwd)/interleave_thinker/tinyworld/weights
START=${START:-${BASE_STEPS:+$OUT/base/base}}
START=${START:-$WEIGHTS/base}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # a core for each of what runs at a time
mkdir -p "$OUT"
SINCE=$(date +%s)
took() { # seconds of each part, in times.txt; those of a run that was resumed add up
  echo "$(($(date +%s) - SINCE)) s: $1" | tee -a "$OUT/times.txt"
  SINCE=$(date +%s)
}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT # what runs beside does not outlive a failure

# 1. What all trainings start from: says what rendered pictures show, plans short stories, accepts most of what is wrong.
if [ ! -d "$START" ]; then
  $I tinyworld train base --out "$OUT/base" --steps "$BASE_STEPS" --seed 3
fi

# 2. Requests with right plans; the real tiny generator, many requests at a time; a critic that knows the truth, as a
# hosted teacher would. Beside it more attempts, at random stories.
$I data prompts --world tiny --count "$REQUESTS" --seed 11 --out "$OUT/requests" --resume
$I tinyworld attempts --out "$OUT/more" --count "$MORE" --seed 7 --dtype bfloat16 &
more=$!
$I data trajectories "$OUT/requests/requests.jsonl" --critic tiny:oracle --generator tiny --dtype bfloat16 --t-max 5 \
  --workers 24 --out "$OUT/made" --resume
wait "$more"

# 3. Records, scores, filter, exports. Steps that needed a retry vary most, so RL takes a tenth of all steps, not a third.
$I data from-runs "$OUT/made/runs" --store "$OUT/made/store" --out "$OUT/data" --resume
$I data score "$OUT/data" --judge checker --label-by score --min-semantics 10 --min-quality 5 --resume
$I data filter "$OUT/data" --rl-share 0.1 --resume
$I data planner "$OUT/data" --cuts 0 --resume
$I data export "$OUT/data" --format trl --format rl --format compare --prompts "$WEIGHTS/critic/prompts" --on-accept empty

# What the critic learns from: the filtered records, comparisons, and the same attempts under other words, so that it
# learns to look and not to read. The pictures of these are moved by a pixel, or a shade lighter.
$I tinyworld lessons "$OUT/data" "$OUT/more" --out "$OUT/data" --count "$LESSONS"
head -n 3000 "$OUT/data/compare_sft.jsonl" | cat "$OUT/data/critic_sft.jsonl" "$OUT/data/lesson_sft.jsonl" - \
  > "$OUT/data/critic_all.jsonl"

took "data"

# 4. SFT of the critic, on all cores.
SFT="--train-vision --accumulate 1 --weight-decay 0.01 --precision bf16 --save-every 100 --log-every 50 --resume"
together() { torchrun --standalone --nproc_per_node "$WORKERS" --no-python "$I" "$@"; }
together sft critic --model "$START" --data "$OUT/data/critic_all.jsonl" --out "$OUT/sft-critic" $SFT \
  --batch $((32 / WORKERS)) --learning-rate 5e-4 --steps "$CRITIC_STEPS"
took "SFT of the critic"

# 5. The critic once more, on attempts that it makes itself in the loop: what it misreads is tried again, and what it
# wrongly accepts is gone on from. These count twice, and wrong ones are shown more often than right ones.
$I tinyworld attempts --critic "$OUT/sft-critic/model" --out "$OUT/loop-1" --count "$LOOP" --seed 101 --dtype bfloat16 &
first=$!
$I tinyworld attempts --critic "$OUT/sft-critic/model" --out "$OUT/loop-2" --count "$LOOP" --seed 102 --dtype bfloat16
wait "$first"
$I tinyworld lessons "$OUT/data" "$OUT/more" "$OUT/loop-1" "$OUT/loop-2" "$OUT/loop-1" "$OUT/loop-2" --out "$OUT/second" \
  --count $((SECOND_STEPS * 28)) --compare $((SECOND_STEPS * 4)) --right-share 0.4 --seed 1
together sft critic --model "$OUT/sft-critic/model" --data "$OUT/second/lesson_sft.jsonl" --out "$OUT/sft-critic-2" \
  $SFT --batch $((32 / WORKERS)) --learning-rate 4e-4 --steps "$SECOND_STEPS"
took "second round of the critic"

# 6. GRPO of the critic: eight states a step, eight responses to each, every refined prompt tried.
$I grpo --model "$OUT/sft-critic-2/model" --data "$OUT/data" --out "$OUT/grpo-critic" --train-vision --generator tiny \
  --judge checker --reward ours --group 8 --batch 64 --accumulate 1 --learning-rate 1e-5 --max-tokens 160 \
  --steps "$GRPO_STEPS" --save-every 20 --resume
took "GRPO"

# 7. SFT of the planner.
together sft planner --model "$START" --data "$OUT/data" --out "$OUT/sft-planner" $SFT \
  --batch $((32 / WORKERS)) --learning-rate 5e-4 --steps "$PLANNER_STEPS"
took "SFT of the planner"

# 8. The mean of the three critics, in which the mistakes of each weigh less, and beside it the planner and the generator,
# as `tinyworld eval` and Load Agent take them.
mkdir -p "$OUT/agents"
rm -rf "$OUT/agents/planner" "$OUT/agents/critic" "$OUT/agents/generator"
$I tinyworld average "$OUT/sft-critic/model" "$OUT/sft-critic-2/model" "$OUT/grpo-critic/model" --out "$OUT/agents/critic"
cp -r "$OUT/sft-planner/model" "$OUT/agents/planner"
cp -r "$WEIGHTS/generator" "$OUT/agents/generator"
$I tinyworld eval --requests "$EVAL_REQUESTS" --seed 2026 --t-max 1,3,5 --weights "$OUT/agents" --json "$OUT/eval.json"
took "evaluation"
