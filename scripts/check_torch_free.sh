#!/usr/bin/env bash
# Fails where a program links LibTorch, CUDA or MPI, directly or through another library: dsft must start in milliseconds.
# Usage: check_torch_free.sh PROGRAM       (run by ctest: "dsft_is_torch_free")
set -euo pipefail

program=${1:?usage: check_torch_free.sh PROGRAM}
forbidden='lib(torch|c10|cud|nccl|nv|mpi|open-rte|open-pal)[^ ]*'

# What the program names itself, then what the loader would load with it.
direct=$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p')
if [ -z "$direct" ]; then
  echo "check_torch_free: $program names no shared library at all; is it a program of this build?" >&2
  exit 1
fi
loaded=$(ldd "$program")
if found=$(grep -oE "$forbidden" <<<"$direct"$'\n'"$loaded" | sort -u); then
  echo "check_torch_free: $program links what it must not:" >&2
  echo "$found" >&2
  exit 1
fi
if grep -q 'not found' <<<"$loaded"; then
  echo "check_torch_free: libraries of $program are missing:" >&2
  grep 'not found' <<<"$loaded" >&2
  exit 1
fi
echo "$program needs $(wc -w <<<"$direct") shared libraries, none of LibTorch, CUDA or MPI"
