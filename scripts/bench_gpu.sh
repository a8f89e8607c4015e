#!/usr/bin/env bash
# Training speed on one GPU, dsft and its peers by turns: LoRA r = 16 on q, k, v, o (and all weights), bf16, random weights and tokens.
#   scripts/bench_gpu.sh [CASE ...]      cases: 0.6b 0.6b-short 0.6b-recompute 0.6b-full 1.5b 7b 7b-recompute; default: all
#   DSFT_PEERS=DIR    a Python environment with torch, transformers, peft and, for the second peer, liger-kernel (default: .venv-peers)
# Prints one JSON line per measurement; the median step counts.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

python=${DSFT_PEERS:-.venv-peers}/bin/python
dsft=${DSFT:-build/bin/dsft}
[ -x "$dsft" ] || stop "$dsft is not built; run scripts/build.sh"
cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(0.6b 0.6b-short 0.6b-recompute 0.6b-full 1.5b 7b 7b-recompute)

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

for case in "${cases[@]}"; do
  case $case in
    0.6b) measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 8 2048 ;;
    0.6b-short) measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 1 512 ;;
    0.6b-recompute) measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 8 2048 recompute ;;
    0.6b-full) measure recipes/configs/qwen3_0.6b.json qwen3-0.6b 8 2048 full ;;
    1.5b) measure bench/gpu/qwen2.5_1.5b.json qwen2.5-1.5b 8 2048 ;;
    7b) measure bench/gpu/qwen2.5_7b.json qwen2.5-7b 4 2048 ;;
    7b-recompute) measure bench/gpu/qwen2.5_7b.json qwen2.5-7b 4 2048 recompute ;;
    *) stop "no such case: $case" ;;
  esac
done
