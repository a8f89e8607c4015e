#!/usr/bin/env bash
# Compares dsft with the libraries that users come from and prints one table; ends with 1 if a comparison fails.
#   scripts/parity.sh [TOPIC ...]      topics: the scripts in scripts/parity (default: all)
#                                      gpu_training is skipped where torch finds no GPU
#   DSFT_PEERS=DIR                     a virtual environment with the peers, instead of installing them into .venv-peers
# A topic's script prints lines "topic | case | dsft | peer | bound | ok" (scripts/parity/comparison.py) or its own figures, and its exit code counts; 77
# says that nothing was compared, and its last line why.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"
# shellcheck source=scripts/peers.sh
. scripts/peers.sh

[ -x build/bin/dsft ] || stop "build/bin/dsft is not built; run scripts/build.sh"
install_peers
bash scripts/make_inputs.sh

# An adapter that dsft trains for a few updates, and its merge, both in runs/parity.
make_adapter() {
  rm -rf runs/parity
  build/bin/dsft launch recipes/sft/smollm2_135m_function_calling.yaml model.dtype=fp32 training.max_steps=3 \
    training.per_device_train_batch_size=2 output_dir=runs/parity/adapter &&
    build/bin/dsft merge-lora --base models/SmolLM2-135M-Instruct --adapter runs/parity/adapter --output runs/parity/merged --dtype fp32
}

# Arguments of the topics that need some.
arguments_of() {
  case $1 in
    adapters) make_adapter >&2 && echo "models/SmolLM2-135M-Instruct runs/parity/adapter runs/parity/merged" ;;
    chat_templates) echo "--test-program build/bin/test_text --fixtures" ;;
    grpo_curves) bash scripts/build.sh test_rewards >&2 && echo "--cases short similar" ;;
    tokenizer) bash scripts/build.sh tokenizer_bench >&2 && echo "models/SmolLM2-135M-Instruct" ;;
  esac
}

topics=("$@")
if [ ${#topics[@]} = 0 ]; then
  for script in scripts/parity/*.py; do
    [ "$(basename "$script")" = comparison.py ] || topics+=("$(basename "$script" .py)")
  done
fi

results=$(mktemp)
trap 'rm -f "$results"' EXIT
agreeing=()
failed=()
left_out=()
for topic in "${topics[@]}"; do
  [ -e "scripts/parity/$topic.py" ] || stop "there is no scripts/parity/$topic.py; topics: $(cd scripts/parity && echo *.py)"
  step "$topic"
  read -ra arguments <<<"$(arguments_of "$topic")" || true
  code=0
  "$peer_python" -W ignore "scripts/parity/$topic.py" "${arguments[@]}" | tee "$results.topic" || code=$?
  last_line=$(tail -n 1 "$results.topic" | tr '|' '/')
  case $code in
    0) agreeing+=("$topic") ok=yes ;;
    77) left_out+=("$topic") ok="skipped ($last_line)" last_line=- ;;
    *) failed+=("$topic") ok=NO ;;
  esac
  grep -E '^([^|]*\|){5}[^|]*$' "$results.topic" >>"$results" || echo "$topic | all | $last_line | - | equal | $ok" >>"$results"
  rm -f "$results.topic"
done

echo
{ echo "topic | case | dsft | peer | bound | ok"; cat "$results"; } | column -t -s '|' 2>/dev/null || cat "$results"
[ ${#failed[@]} = 0 ] || stop "these topics do not agree with their peer: ${failed[*]}"
echo "Topics that agree with their peer: ${agreeing[*]:-none}.${left_out[*]:+ Skipped: ${left_out[*]}.}"
