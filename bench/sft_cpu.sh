#!/usr/bin/env bash
# LoRA fine-tuning of SmolLM2-135M on this CPU: dsft and transformers + PEFT on the same rows, by turns, and their ratio.
#   bench/sft_cpu.sh [CASE ...]        cases: full-fp32 full-bf16 third-fp32 mixed-fp32 memory-fp32 (default: all)
#   ROUNDS=N                           turns of each (default 3; the median counts)
#   DSFT_PEERS=DIR                     a virtual environment with the peers (scripts/peers.sh)
# full: all tokens supervised; third: 30 % of them; mixed: lengths from 32 to 1024, packed in dsft and padded in the peer; memory: one 4x2048 step.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/../scripts/steps.sh"
# shellcheck source=scripts/peers.sh
. scripts/peers.sh

model=models/SmolLM2-135M-Instruct
dsft=build/bin/dsft
rounds=${ROUNDS:-3}
steps=4 warmup=1
[ -x $dsft ] || stop "build/bin/dsft is not built; run scripts/build.sh"
install_peers
bash scripts/make_inputs.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One run of dsft; prints a JSON line like the peer's. Its time per update and tokens/s are those of metrics.jsonl after the warm-up.
run_dsft() { # ROWS BATCH DTYPE PACKING LENGTH
  rm -rf "$work/run"
  cat >"$work/recipe.yaml" <<RECIPE
recipe: sft
output_dir: $work/run
device: cpu
model: {path: $model, dtype: $3}
lora: {r: 16, lora_alpha: 32, target_modules: all-linear, task_type: CAUSAL_LM}
data: {train: [$1], max_length: $5, packing: $4, shuffle: false}
training: {max_steps: $((warmup + steps)), per_device_train_batch_size: $2, learning_rate: 2.0e-4, logging_steps: 1, save_strategy: "no", report_to: [none]}
RECIPE
  $dsft launch "$work/recipe.yaml" >/dev/null 2>"$work/dsft.log" || { cat "$work/dsft.log" >&2; stop "dsft failed (above)"; }
  python3 - "$work/run/metrics.jsonl" $warmup "$3" <<'PYTHON'
import json, sys
logs = [json.loads(line) for line in open(sys.argv[1])]
logs = [log for log in logs if "grad_norm" in log]
first = int(sys.argv[2])
tokens = [log["num_tokens"] - (logs[i - 1]["num_tokens"] if i else 0) for i, log in enumerate(logs)][first:]
seconds = [count / log["tokens_per_second"] for count, log in zip(tokens, logs[first:])]
print(json.dumps({"dtype": sys.argv[3], "steps": len(seconds), "s_per_step": round(sum(seconds) / len(seconds), 3),
                  "tokens_per_s": round(sum(tokens) / sum(seconds), 1), "peak_rss_gib": max(log["peak_memory_gib"] for log in logs)}))
PYTHON
}

run_peer() { # ROWS BATCH DTYPE; a peer that the kernel kills for its memory is a result, too
  local code=0
  "$peer_python" -W ignore bench/peers/hf_sft_cpu.py --model $model --rows "$1" --batch "$2" --dtype "$3" --steps $steps --warmup $warmup \
    2>"$work/peer.log" || code=$?
  if [ $code = 137 ]; then
    echo '{"tokens_per_s": 0, "peak_rss_gib": Infinity}'
  elif [ $code != 0 ]; then
    tail -n 5 "$work/peer.log" >&2
    stop "the peer failed (above)"
  fi
}

run_case() { # NAME
  local result steps=$steps kind=${1%-*} dtype=${1#*-} length=512 batch=2 peer_batch=2 packing=false rows=$work/rows.jsonl
  local shape=$kind
  case $kind in
    full | third) ;;
    mixed) length=1024 batch=1 peer_batch=4 packing=true ;; # bins of 1024 tokens against four padded rows
    memory) length=2048 batch=4 peer_batch=4 shape=full steps=1 ;;
    *) stop "there is no case $1; cases: full-fp32 full-bf16 third-fp32 mixed-fp32 memory-fp32" ;;
  esac
  python3 bench/make_rows.py "$shape" "$length" $((peer_batch * (steps + warmup))) >"$rows"
  for ((round = 1; round <= rounds; ++round)); do
    result=$(run_dsft "$rows" $batch "$dtype" $packing $length)
    echo "$1 dsft $result" | tee -a "$work/results"
    result=$(run_peer "$rows" $peer_batch "$dtype")
    echo "$1 peer $result" | tee -a "$work/results"
  done
}

cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(full-fp32 full-bf16 third-fp32 mixed-fp32 memory-fp32)
for name in "${cases[@]}"; do
  step "$name"
  run_case "$name"
done

python3 - "$work/results" <<'PYTHON'
import collections, json, statistics, sys
results = collections.defaultdict(list)
for line in open(sys.argv[1]):
    case, who, text = line.split(" ", 2)
    results[case, who].append(json.loads(text))
print("\n| case | dsft tokens/s | peer tokens/s | ratio | dsft peak GiB | peer peak GiB |\n|---|---|---|---|---|---|")
for case in dict.fromkeys(case for case, _ in results):
    def median(who, key):
        return statistics.median(result[key] for result in results[case, who])
    speed = median("dsft", "tokens_per_s"), median("peer", "tokens_per_s")
    if not speed[1]:
        print(f"| {case} | {speed[0]:.0f} | killed | - | {median('dsft', 'peak_rss_gib'):.2f} | out of memory |")
        continue
    print(f"| {case} | {speed[0]:.0f} | {speed[1]:.0f} | {speed[0] / speed[1]:.2f} | {median('dsft', 'peak_rss_gib'):.2f} | {median('peer', 'peak_rss_gib'):.2f} |")
PYTHON
