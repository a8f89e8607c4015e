#!/usr/bin/env bash
# Speed on one GPU, dsft and its peers by turns: training with LoRA r = 16 on q, k, v, o (and all weights), short batches also without CUDA graphs,
# rows of a chat beside TRL, decoding, and GRPO beside TRL; bf16, random weights and tokens.
#   scripts/bench_gpu.sh [CASE ...]      default: all of them
#     0.6b 0.6b-recompute 0.6b-recompute-selectively 0.6b-full 0.6b-short 0.6b-2x512 0.6b-4x512 1.5b 7b 7b-recompute 7b-recompute-selectively
#     chat decode-0.6b decode-1.5b decode-7b first-step grpo
#   DSFT_PEERS=DIR    a Python environment with torch, numpy, transformers, peft; for the second peer liger-kernel, for chat trl (default: .venv-peers)
# Prints one JSON line per measurement; the median step counts.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

python=${DSFT_PEERS:-.venv-peers}/bin/python
dsft=${DSFT:-build/bin/dsft}
[ -x "$dsft" ] || stop "$dsft is not built; run scripts/build.sh"
qwen3_0_6b=recipes/configs/qwen3_0.6b.json
cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(0.6b 0.6b-recompute 0.6b-recompute-selectively 0.6b-full 0.6b-short 0.6b-2x512 0.6b-4x512 1.5b 7b 7b-recompute
  7b-recompute-selectively chat decode-0.6b decode-1.5b decode-7b first-step grpo)

# peer SCRIPT [OPTION ...]: one that fails (out of memory, a package that is missing) does not end the others
peer() {
  local script=$1
  shift
  "$python" "bench/gpu/$script" "$@" || echo "the peer failed (above)" >&2
}

has_liger() {
  "$python" -c "import liger_kernel" 2>/dev/null
}

# measure CONFIG SHAPE BATCH LENGTH [recompute|recompute-selectively|full]; the peers know no selective recomputation and recompute whole layers instead
measure() {
  local config=$1 shape=$2 batch=$3 length=$4 how=() peers_how=()
  [ -z "${5:-}" ] || how=("--$5") peers_how=("--${5%-selectively}")
  step "$shape ${batch}x$length ${how[*]}"
  "$dsft" bench train --config "$config" --batch-size "$batch" --length "$length" "${how[@]}" --json
  peer hf_sft.py "${peers_how[@]}" "$shape:${batch}x$length"
  if has_liger; then peer hf_sft.py --liger "${peers_how[@]}" "$shape:${batch}x$length"; fi
}

# Rows of a chat, most of them short, packed into bins of 2048; TRL also as users often have it, padded.
chat() {
  step "Chats, Qwen3-0.6B"
  "$python" bench/gpu/dsft_chat.py --dsft "$dsft" --config "$qwen3_0_6b" --tokenizer models/SmolLM2-135M-Instruct --batch 8
  if has_liger; then peer trl_sft.py --layout packed --batch 8 --attention torch_varlen --liger; fi
  peer trl_sft.py --layout packed --batch 8 --attention torch_varlen
  peer trl_sft.py --layout padded --batch 8
}

# measure_decoding CONFIG SHAPE SEQUENCES: prompts of 128 tokens, 128 new ones each
measure_decoding() {
  local config=$1 shape=$2 sequences=$3
  step "$shape, $sequences sequences decoded"
  "$dsft" bench decode --config "$config" --batch-size "$sequences" --length 128 --new-tokens 128 --json
  peer hf_generate.py "$shape:$sequences"
}

# A whole `dsft launch` of one update on 8 x 2048 tokens, from the start of the process to its end with the adapter saved; three rounds, of which the
# first also brings the checkpoint into the page cache. The peer's process ends with the update.
first_step() {
  local folder started
  folder=$(mktemp -d)
  # shellcheck disable=SC2064  # the folder of now
  trap "rm -rf '$folder'" EXIT
  step "The first step of Qwen3-0.6B"
  "$dsft" init-model --config "$qwen3_0_6b" --tokenizer models/SmolLM2-135M-Instruct --output "$folder/model" >&2
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
  PYTHONPATH=bench/gpu peer hf_first_step.py qwen3-0.6b:8x2048
}

# Updates of 320 completions: on-policy, with the log-probabilities of an old policy and of a reference, in the bitwise mode, and TRL's.
grpo() {
  step "GRPO, Qwen2.5-1.5B"
  "$python" bench/gpu/dsft_grpo.py --dsft "$dsft"
  "$python" bench/gpu/dsft_grpo.py --dsft "$dsft" --iterations 2 --beta 0.04
  "$python" bench/gpu/dsft_grpo.py --dsft "$dsft" --full-determinism
  peer trl_grpo.py --steps 2
}

for case in "${cases[@]}"; do
  case $case in
    0.6b) measure "$qwen3_0_6b" qwen3-0.6b 8 2048 ;;
    0.6b-recompute | 0.6b-recompute-selectively | 0.6b-full) measure "$qwen3_0_6b" qwen3-0.6b 8 2048 "${case#0.6b-}" ;;
    0.6b-short)
      measure "$qwen3_0_6b" qwen3-0.6b 1 512
      "$dsft" bench train --config "$qwen3_0_6b" --batch-size 1 --length 512 --no-cuda-graphs --json
      ;;
    0.6b-2x512) measure "$qwen3_0_6b" qwen3-0.6b 2 512 ;;
    0.6b-4x512) measure "$qwen3_0_6b" qwen3-0.6b 4 512 ;;
    1.5b) measure bench/gpu/qwen2.5_1.5b.json qwen2.5-1.5b 8 2048 ;;
    7b) measure bench/gpu/qwen2.5_7b.json qwen2.5-7b 4 2048 ;;
    7b-recompute | 7b-recompute-selectively) measure bench/gpu/qwen2.5_7b.json qwen2.5-7b 4 2048 "${case#7b-}" ;;
    chat) chat ;;
    decode-0.6b)
      for sequences in 1 8 16 64 256; do measure_decoding "$qwen3_0_6b" qwen3-0.6b $sequences; done
      ;;
    decode-1.5b)
      for sequences in 1 256; do measure_decoding bench/gpu/qwen2.5_1.5b.json qwen2.5-1.5b $sequences; done
      ;;
    decode-7b) measure_decoding bench/gpu/qwen2.5_7b.json qwen2.5-7b 1 ;;
    first-step) first_step ;;
    grpo) grpo ;;
    *) stop "no such case: $case" ;;
  esac
done
