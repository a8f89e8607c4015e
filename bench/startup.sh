#!/usr/bin/env bash
# How long dsft takes before it computes: --help, check --config-only, check, and one token of the starter model from start to end of the process; the
# median of 20 runs each, in milliseconds (check finds its rows tokenised).
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/../scripts/steps.sh"

dsft=build/bin/dsft
recipe=recipes/sft/smollm2_135m_function_calling.yaml
[ -x $dsft ] || stop "build/bin/dsft is not built; run scripts/build.sh"
bash scripts/make_inputs.sh

measure() { # BOUND_MS COMMAND...
  python3 - "$@" <<'PYTHON'
import statistics, subprocess, sys, time
def run():
    begin = time.perf_counter()
    result = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(sys.argv[2:])} ended with {result.returncode}: {result.stderr[-500:]}")
    return 1000 * (time.perf_counter() - begin)
run()
median = statistics.median(run() for _ in range(20))
verdict = "ok" if median <= float(sys.argv[1]) else "OVER"
print(f"| {' '.join(sys.argv[2:])} | {median:.1f} | {sys.argv[1]} | {verdict} |")
PYTHON
}

echo "| command | ms | bound, ms | |"
echo "|---|---|---|---|"
measure 20 $dsft --help
measure 100 $dsft check --config-only $recipe
measure 1000 $dsft check $recipe
measure 3000 $dsft generate --model models/SmolLM2-135M-Instruct --prompt hi --max-new-tokens 1 --temperature 0
