#!/usr/bin/env bash
# Builds everything and runs every test; arguments go to ctest: scripts/test.sh -R tokenizer
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

bash scripts/build.sh
bash scripts/make_inputs.sh
step "Tests"
exec "$(realpath "$(tool ctest)")" --test-dir build --output-on-failure --no-tests=error -j "$(nproc)" "$@"
