#!/usr/bin/env bash
# Scores tool calls on the held-out rows before and after training, with a baseline beside them that always gives the same answer.
#   scripts/score_tool_calls.sh [NUM_ROWS] [RECIPE]     default: all rows, recipes/sft/smollm2_135m_function_calling.yaml
#   WHEN=before | after                                 only one of the two
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

num_rows=${1:-0} # 0: all
recipe=${2:-recipes/sft/smollm2_135m_function_calling.yaml}
held_out=data/function_calling/held_out.jsonl
dsft=build/bin/dsft
[ -x $dsft ] || stop "build/bin/dsft is not built; run scripts/build.sh dsft dsft-trainer"
output_dir=$(sed -n 's/^output_dir: *//p' "$recipe")
limit=()
[ "$num_rows" = 0 ] || limit=("eval.num_samples=$num_rows")

# Share of rows that `dsft eval` counts as right, as a percentage.
score() {
  local result
  result=$($dsft eval --json "$recipe" 'eval.metrics=[tool_call]' "${limit[@]}" "$@") || stop "dsft eval failed (above)"
  python3 -c 'import json, sys; print(round(100 * json.load(sys.stdin)["eval_tool_call"], 1), "%")' <<<"$result"
}

# What the best constant answer gets: "no call", or the most frequent call of the rows.
baseline() {
  python3 - "$held_out" "$num_rows" <<'PYTHON'
import collections, json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
rows = rows[:int(sys.argv[2]) or len(rows)]
answers = collections.Counter(json.dumps(row["messages"][-1].get("tool_calls"), sort_keys=True) for row in rows)
print(f"{100 * answers.most_common(1)[0][1] / len(rows):.1f} % of {len(rows)} rows")
PYTHON
}

echo "always the same answer: $(baseline)"
if [ "${WHEN:-before}" = before ]; then echo "before training:        $(score)"; fi
if [ "${WHEN:-after}" = after ]; then
  [ -e "$output_dir/adapter_model.safetensors" ] || stop "$output_dir has no adapter yet; train first: $dsft launch $recipe"
  echo "after training:         $(score "lora.adapter=$output_dir")"
fi
