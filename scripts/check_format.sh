#!/usr/bin/env bash
# Fails where a C++ file is not formatted as .clang-format says; `check_format.sh --fix` formats in place. Skipped where clang-format is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v clang-format >/dev/null; then
  echo "check_format: clang-format is not installed (apt-get install clang-format, or pip install clang-format): skipped"
  exit 0
fi
mode=(--dry-run --Werror)
[ "${1:-}" != --fix ] || mode=(-i)
git ls-files -z -- 'lib/*.h' 'lib/*.cpp' 'lib/*.cu' 'apps/*.h' 'apps/*.cpp' 'test/*.h' 'test/*.cpp' 'bench/*.h' 'bench/*.cpp' |
  xargs -0 -r clang-format "${mode[@]}"
echo "check_format: done"
