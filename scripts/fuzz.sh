#!/usr/bin/env bash
# Builds the readers of untrusted files with libFuzzer and the sanitizers, and runs each for a while: scripts/fuzz.sh [SECONDS] [TARGET ...]
# Default: 60 seconds each, all targets of test/fuzz. Ends non-zero at a finding, with the path of the input that reproduces it. A finding is anything
# but dsft::Error: another exception, a crash, a sanitizer's report, more than 5 s (the sanitizers slow everything) or 512 MB.
# What was learned is kept in build-fuzz/learned/, so that the next run goes on from there. No LibTorch is needed.
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

seconds=${1:-60}
targets=("${@:2}")
command -v clang++ >/dev/null || stop "clang++ is not installed; install it by: apt-get install clang"
bash scripts/fetch_catch2.sh # CMake wants it where tests are built
cmake=$(tool cmake)
step "Building the fuzz targets in build-fuzz/"
"$cmake" --preset fuzz "-DCMAKE_MAKE_PROGRAM=$(realpath "$(tool ninja)")" >/dev/null || stop "CMake could not configure (above)"
"$cmake" --build build-fuzz -j "$(num_jobs)" --target fuzz_targets || stop "the build failed (above)"
if [ ${#targets[@]} = 0 ]; then
  for file in test/fuzz/*_fuzz.cpp; do targets+=("$(basename "$file" _fuzz.cpp)"); done
fi

# The quarantine of freed memory would count as the target's.
export ASAN_OPTIONS=quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1
export TMPDIR=${TMPDIR:-/dev/shm} # most targets write their input to a file
findings=()
for target in "${targets[@]}"; do
  step "$target: $seconds s"
  learned=build-fuzz/learned/$target
  found=build-fuzz/findings/$target
  mkdir -p "$learned" "$found"
  folders=("$learned" "build-fuzz/test/fuzz/seeds/$target")
  dictionary=()
  [ ! -e "test/fuzz/dictionaries/$target" ] || dictionary=("-dict=test/fuzz/dictionaries/$target")
  log=$found/log
  if "build-fuzz/bin/${target}_fuzz" "${folders[@]}" "${dictionary[@]}" "-max_total_time=$seconds" -max_len=16384 -timeout=5 -rss_limit_mb=512 \
    -malloc_limit_mb=256 -print_final_stats=1 "-artifact_prefix=$found/" >"$log" 2>&1; then
    grep -E "^stat::(number_of_executed_units|peak_rss_mb)" "$log"
  else
    tail -n 60 "$log"
    findings+=("$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)")
  fi
done
[ ${#findings[@]} = 0 ] || stop "findings: ${findings[*]}. Mend the reader, then put each input into test/fuzz/corpus/<target>/, where ctest replays it"
echo "No findings."
