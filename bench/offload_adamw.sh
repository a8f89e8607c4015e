#!/usr/bin/env bash
# AdamW of an offloaded optimizer on this host: dsft beside a STREAM triad with stores past the caches, and DeepSpeedCPUAdam and torch's fused AdamW.
#   bench/offload_adamw.sh [MILLIONS_OF_PARAMETERS [ROUNDS]]     default 64 and 15
#   TURNS=N                                                      of dsft and the peers (default 4); the best round of all counts
#   OMP_NUM_THREADS=N                                            threads of all of them (default: one per core)
#   DSFT_PEERS=DIR                                               a virtual environment with torch 2.11.0 and deepspeed 0.19.8 (default: .venv-peers)
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/../scripts/steps.sh"

millions=${1:-64} rounds=${2:-15}
peers=${DSFT_PEERS:-.venv-peers}
[ -f build/build.ninja ] || stop "there is no build folder; run scripts/build.sh"
"$(tool cmake)" --build build --target offload_adamw >/dev/null || stop "build/bin/offload_adamw could not be built"
"$peers/bin/python" -W ignore -c 'import deepspeed; assert deepspeed.__version__ == "0.19.8"' >/dev/null 2>&1 ||
  stop "$peers has no deepspeed 0.19.8; run $peers/bin/pip install deepspeed==0.19.8 ninja"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} OMP_PROC_BIND=${OMP_PROC_BIND:-close}
# by turns, so that a machine that is busy for a while is so for all; the best turn of each counts
for _ in $(seq "${TURNS:-4}"); do
  build/bin/offload_adamw "$millions" "$rounds"
  DS_SKIP_CUDA_CHECK=1 PATH="$peers/bin:$PATH" "$peers/bin/python" -W ignore bench/peers/deepspeed_cpu_adam.py "$millions" "$rounds" 2>/dev/null | grep '^|' ||
    stop "the peers failed; run bench/peers/deepspeed_cpu_adam.py $millions $rounds by itself"
done
