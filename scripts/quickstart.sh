#!/usr/bin/env bash
# From a fresh machine to a model that calls functions: set-up, build, starter model, data, answers before, training, answers after.
# Steps that are done already are skipped; to train again, remove runs/smollm2-function-calling and runs/smollm2-function-calling.before.
#   LIBTORCH=DIR     as for scripts/setup.sh
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

recipe=recipes/sft/smollm2_135m_function_calling.yaml
run=runs/smollm2-function-calling
model=models/SmolLM2-135M-Instruct
dsft=build/bin/dsft
num_rows=50 # of 240, to keep this short; scripts/score_tool_calls.sh scores all

# A copy of the model's folder by links, with the template that renders tools, so that the untrained model is asked in the same words.
make_asked_model() {
  mkdir -p "$run.before/model"
  ln -sf "$PWD/$model"/* "$run.before/model/"
  cp recipes/templates/smollm2_tools.jinja "$run.before/model/chat_template.jinja"
}

# Three held-out questions without their answers.
write_questions() {
  python3 - data/function_calling/held_out.jsonl "$run.before/questions.jsonl" <<'PYTHON'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
single = [row for row in rows if len(row["messages"]) == 2 and "tool_calls" in row["messages"][1]]
with open(sys.argv[2], "w", encoding="utf-8") as file:
    for row in single[:3]:
        print(json.dumps({"messages": row["messages"][:1], "tools": row["tools"]}), file=file)
PYTHON
}

# Prints question and answer; further arguments go to dsft generate.
show_answers() {
  local answers
  answers=$($dsft generate --model "$run.before/model" --input "$run.before/questions.jsonl" --temperature 0 --max-new-tokens 60 --json "$@") ||
    stop "dsft generate failed (above)"
  python3 - "$run.before/questions.jsonl" "$answers" <<'PYTHON'
import json, sys
for line, answer in zip(open(sys.argv[1], encoding="utf-8"), json.loads(sys.argv[2])):
    print(f"    question: {json.loads(line)['messages'][0]['content']}\n    answer:   {answer['text'].strip()}")
PYTHON
}

# The faster of two short trials, by the rate of their second update; says both on stderr.
choose_dtype() {
  local dtype
  for dtype in bf16 fp32; do
    $dsft launch $recipe "model.dtype=$dtype" training.max_steps=2 "output_dir=$run.trial/$dtype" 'training.report_to=[none]' 2>"$run.trial.log" ||
      { cat "$run.trial.log" >&2; stop "the trial in $dtype failed (above)"; }
  done
  python3 - "$run.trial" <<'PYTHON' || stop "the trials left no rates in $run.trial/*/metrics.jsonl (above)"
import json, sys
rates = {}
for dtype in ("bf16", "fp32"):
    with open(f"{sys.argv[1]}/{dtype}/metrics.jsonl", encoding="utf-8") as file:
        rates[dtype] = [log["tokens_per_second"] for log in map(json.loads, file) if "tokens_per_second" in log][-1]
print("    " + ", ".join(f"{dtype}: {rate:.0f} tokens/s" for dtype, rate in rates.items()), file=sys.stderr)
print(max(rates, key=rates.get))
PYTHON
  rm -rf "$run.trial" "$run.trial.log"
}

bash scripts/build.sh dsft dsft-trainer
bash scripts/make_inputs.sh
make_asked_model
write_questions

if [ -s "$run.before/score.txt" ]; then
  skipped "Score before training"
else
  step "Score before training: $num_rows held-out rows (a minute)"
  WHEN=before bash scripts/score_tool_calls.sh $num_rows $recipe >"$run.before/score.new"
  mv "$run.before/score.new" "$run.before/score.txt"
fi
cat "$run.before/score.txt"
step "Answers before training"
show_answers

# A training that was stopped has left weights too: the mark says that it came to its end.
if [ -e $run/adapter_model.safetensors ] && [ -e "$run.before/trained" ]; then
  skipped "Training: $run"
else
  if [ ! -s "$run.before/dtype" ]; then
    step "Two updates in bf16 and in fp32: which is faster depends on the CPU"
    choose_dtype >"$run.before/dtype.new"
    mv "$run.before/dtype.new" "$run.before/dtype"
  fi
  command=("$dsft" launch "$recipe" "model.dtype=$(cat "$run.before/dtype")")
  [ ! -e $run/adapter_model.safetensors ] || command+=(training.resume_from_checkpoint=true)
  step "Training: ${command[*]}"
  "${command[@]}" || stop "the training did not come to its end (above); run this again to go on"
  touch "$run.before/trained"
fi

step "Score after training: $num_rows held-out rows"
WHEN=after bash scripts/score_tool_calls.sh $num_rows $recipe
step "Answers after training"
show_answers --adapter $run
echo "The adapter is in $run; PEFT and transformers load it. Next: README.md, $dsft recipes, $dsft --help"
