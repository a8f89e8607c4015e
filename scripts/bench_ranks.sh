#!/usr/bin/env bash
# Speed on two GPUs of one host, in one run: LoRA on one and two GPUs, full fine-tuning at each ZeRO stage and with offload, and DeepSpeed's beside it where it is installed.
#   scripts/bench_ranks.sh [CASE ...]      default: all of them
#     lora-1.5b lora-7b stages recompute offload 7b fifty
#   DSFT_PEERS=DIR    a Python environment with torch, transformers and deepspeed (default: .venv-peers); DeepSpeed compiles its AdamW with nvcc first
# Prints one JSON line per measurement: tokens/s for each GPU and GiB, the median update; "ranks_equal" says whether all ranks had the same weights bit for bit.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

python=${DSFT_PEERS:-.venv-peers}/bin/python
dsft=${DSFT:-build/bin/dsft}
[ -x "$dsft" ] || stop "$dsft is not built; run scripts/build.sh"
small=bench/gpu/qwen2.5_1.5b.json
large=bench/gpu/qwen2.5_7b.json
cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(lora-1.5b lora-7b stages recompute offload 7b fifty)

ranks() { python3 bench/gpu/dsft_ranks.py --dsft "$dsft" "$@"; }

# deepspeed_sft.py OPTIONS: one that fails does not end the others
deepspeed() {
  if ! "$python" -c "import deepspeed" 2>/dev/null; then
    echo "DeepSpeed is not installed in $python: not measured" >&2
  else
    OMP_NUM_THREADS=$(($(nproc) / 2)) "$python" -m torch.distributed.run --nproc-per-node 2 bench/gpu/deepspeed_sft.py "$@" || {
      echo "DeepSpeed failed (above)" >&2
      num_failed=$((num_failed + 1))
    }
  fi
}

num_failed=0
for case in "${cases[@]}"; do
  step "$case"
  case $case in
    lora-1.5b) ranks --config $small --batch 8 --gpus 1 2 --lora ;;
    lora-7b) ranks --config $large --batch 4 --gpus 1 2 --lora ;;
    stages)
      ranks --config $small --gpus 2 --zero '{stage: 1}' '{stage: 2}' '{stage: 3}'
      deepspeed --stage 2 qwen2.5-1.5b:4x2048
      deepspeed --stage 3 qwen2.5-1.5b:4x2048
      ;;
    recompute) ranks --config $small --gpus 2 --recompute true --zero '{stage: 1}' '{stage: 3}' ;;
    offload)
      ranks --config $small --gpus 2 --zero '{stage: 2, offload_optimizer: {device: cpu}}' '{stage: 3, offload_optimizer: {device: cpu}}' \
        '{stage: 3, offload_optimizer: {device: cpu}, offload_param: {device: cpu}}'
      deepspeed --stage 2 --offload qwen2.5-1.5b:4x2048
      ;;
    7b)
      ranks --config $large --gpus 2 --recompute true --zero '{stage: 3}'
      deepspeed --stage 3 --recompute qwen2.5-7b:4x2048
      ;;
    fifty) ranks --config $small --gpus 2 --steps 50 --zero '{stage: 3}' ;;
    *) stop "no case is called $case" ;;
  esac
done
[ "$num_failed" = 0 ] || stop "$num_failed measurements of DeepSpeed failed"
