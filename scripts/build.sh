#!/usr/bin/env bash
# Builds everything, or the targets named, in build/.     scripts/build.sh [TARGET ...]
#   LIBTORCH=DIR     as for scripts/setup.sh
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

bash scripts/setup.sh
cmake=$(tool cmake)
ninja=$(realpath "$(tool ninja)")
step "Configuring build/"
configuration=(-G Ninja "-DCMAKE_MAKE_PROGRAM=$ninja")
[ -z "${LIBTORCH:-}" ] || configuration+=("-DLIBTORCH=$LIBTORCH")
"$cmake" -S . -B build "${configuration[@]}" || stop "CMake could not configure (above); if build/ was made by another CMake or LibTorch, remove it and run this again"
step "Building ${*:-everything} with $(num_jobs) jobs"
targets=()
[ $# = 0 ] || targets=(--target "$@")
"$cmake" --build build -j "$(num_jobs)" "${targets[@]}" || stop "the build failed (above)"
