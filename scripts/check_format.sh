#!/usr/bin/env bash
# Fails where a C++ file is not formatted as .clang-format says, or where clang-format is missing; `check_format.sh --fix` formats in place.
# Other releases of clang-format break lines elsewhere: requirements.txt pins the one of this tree, and setup.sh installs it into .venv.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

clang_format=$(tool clang-format)
release=$("$clang_format" --version)
grep -q 'version 14\.' <<<"$release" || stop "$release is not release 14; run scripts/setup.sh, which installs it into .venv"
mode=(--dry-run --Werror)
[ "${1:-}" != --fix ] || mode=(-i)
find lib apps test bench -name '*.h' -print0 -o -name '*.cpp' -print0 -o -name '*.cu' -print0 |
  xargs -0 -r -n 20 -P "$(nproc)" "$clang_format" "${mode[@]}"
echo "check_format: done"
