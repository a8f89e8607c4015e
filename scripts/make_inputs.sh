#!/usr/bin/env bash
# Makes the starter model and the data sets of function calls and of sums, which recipes and some tests read.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

if [ -e models/SmolLM2-135M-Instruct ]; then
  skipped "Starter model models/SmolLM2-135M-Instruct"
else
  step "Making the starter model models/SmolLM2-135M-Instruct (20 s)"
  "$(tool python3)" scripts/make_starter_model.py || stop "the starter model could not be made (above)"
fi
# The data set is a function of these scripts alone, so it is made anew where one is newer.
held_out=data/function_calling/held_out.jsonl
if [ $held_out -nt scripts/make_function_calling_data.py ] && [ $held_out -nt scripts/function_calling_tools.py ] &&
  [ $held_out -nt scripts/row_files.py ]; then
  skipped "Data set data/function_calling"
else
  step "Making the data set data/function_calling"
  "$(tool python3)" scripts/make_function_calling_data.py || stop "the data set could not be made (above)"
fi
held_out=data/sums/held_out.jsonl
if [ $held_out -nt scripts/make_sums_data.py ] && [ $held_out -nt scripts/row_files.py ]; then
  skipped "Data set data/sums"
else
  step "Making the data set data/sums"
  "$(tool python3)" scripts/make_sums_data.py || stop "the data set could not be made (above)"
fi
