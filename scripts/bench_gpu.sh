#!/usr/bin/env bash
# Speed on one GPU, dsft and its peers by turns: training with LoRA r = 16 on q, k, v, o (and all weights), short batches also without CUDA graphs,
# and decoding; bf16, random weights and tokens.
#   scripts/bench_gpu.sh [CASE ...]      cases: 0.6b 0.6b-short 0.6b-recompute 0.6b-full 1.5b 7b 7b-recompute decode-0.6b decode-1.5b first-step; default: all
#   DSFT_PEERS=DIR    a Python environment with torch, transformers, peft and, for the second peer, liger-kernel (default: .venv-peers)
# Prints one JSON line per measurement; the median step counts.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

python=${DSFT_PEERS:-.venv-peers}/bin/python
dsft=${DSFT:-build/bin/dsft}
[ -x "$dsft" ] || stop "$dsft is not built; run scripts/build.sh"
cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(0.6b 0.6b-short 0.6b-recompute 0.6b-full 1.5b 7b 7b-recompute decode-0.6b decode-1.5b first-step)

# measure CONFIG SHAPE BATCH LENGTH [recompute|full]
measure() {
  local config=$1 shape=$2 batch=$3 length=$4 how=${5:+--$5}
  step "$shape ${batch}x$length $how"
  # shellcheck disable=SC2086  # $how is empty or one option
  "$dsft" bench train --config "$config" --batch-size "$batch" --length "$length" $how --json
  # shellcheck disable=SC2086
  "$python" bench/gpu/hf_sft.py $how "$shape:${batch}x$length" || echo "the peer failed (above)" >&2
  # shellcheck disable=SC2086
  if "$python" -c "import liger_kernel" 2>/dev/null; then "$python" bench/gpu/hf_sft.py --liger $how "$shape:${batch}x$length"; fi
}

# measure_decoding CONFIG SHAPE SEQUENCES: prompts of 128 tokens, 128 new ones each
measure_decoding() {
  local config=$1 shape=$2 sequences=$3
  step "$shape, $sequences sequences decoded"
  "$dsft" bench decode --config "$config" --batch-size "$sequences" --length 128 --new-tokens 128 --json
  "$python" bench/gpu/hf_generate.py "$shape:$sequences" || echo "the peer failed (above)" >&2
}

# A whole `dsft launch` of one update on 8 x 2048 tokens, from the start of the process to its end with the adapter saved; three rounds, of which the
# first also brings the checkpoint into the page cache. The peer's process ends with the update.
first_step() {
  local folder started
  folder=$(mktemp -d)
  # shellcheck disable=SC2064  # the folder of now
  trap "rm -rf '$folder'" EXIT
  step "The first step of Qwen3-0.6B"
  "$dsft" init-model --config recipes/configs/qwen3_0.6b.json --tokenizer models/SmolLM2-135M-Instruct --output "$folder/model" >&2
  "$python" -c 'import json, random
for row in range(8): print(json.dumps({"token_ids": [random.randrange(49152) for _ in range(2048)]}))' >"$folder/rows.jsonl"
  cat >"$folder/recipe.yaml" <<END
recipe: sft
output_dir: $folder/run
model: {path: $folder/model, dtype: bf16}
lora: {r: 16, lora_alpha: 32, target_modules: [q_proj, k_proj, v_proj, o_proj], task_type: CAUSAL_LM}
data: {train: [$folder/rows.jsonl], max_length: 2048, loss_on: all}
training: {max_steps: 1, per_device_train_batch_size: 8, save_strategy: "no", report_to: none}
END
  for _ in 1 2 3; do
    rm -rf "$folder/run"
    started=$(date +%s.%N)
    "$dsft" launch "$folder/recipe.yaml" >&2
    echo "$started $(date +%s.%N)" | awk '{printf "{\"kind\": \"first_step\", \"seconds\": %.2f}\n", $2 - $1}'
  done
  rm -rf "$folder"
  PYTHONPATH=bench/gpu "$python" bench/gpu/hf_first_step.py qwen3-0.6b:8x2048 || echo "the peer failed (above)" >&2
}

for case in "${cases[@]}"; do
  case $case in
    0.6b) measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 8 2048 ;;
    0.6b-short)
      measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 1 512
      "$dsft" bench train --config recipes/configs/qwen3_0.6b.json --batch-size 1 --length 512 --no-cuda-graphs --json
      ;;
    0.6b-recompute) measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 8 2048 recompute ;;
    0.6b-full) measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 8 2048 full ;;
    1.5b) measure bench/gpu/qwen2.5_1.5b.json qwen2.5-1.5b 8 2048 ;;
    7b) measure bench/gpu/qwen2.5_7b.json qwen2.5-7b 4 2048 ;;
    7b-recompute) measure bench/gpu/qwen2.5_7b.json qwen2.5-7b 4 2048 recompute ;;
    decode-0.6b)
      for sequences in 1 64 256; do measure_decoding recipes/configs/qwen3_0.6b.json qwen3-0.6b $sequences; done
      ;;
    decode-1.5b) measure_decoding bench/gpu/qwen2.5_1.5b.json qwen2.5-1.5b 256 ;;
    first-step) first_step ;;
    *) stop "no such case: $case" ;;
  esac
done
