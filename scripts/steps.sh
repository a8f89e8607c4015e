# shellcheck shell=bash
# What the scripts beside it share: the repository's root as working directory, and how a step is announced, skipped and failed. Sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Says what the next step does.
step() { echo "==> $*"; }

# Says why a step is left out.
skipped() { echo "==> $* (already done)"; }

# Ends the script with a sentence that says what to do.
stop() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# The program of the .venv where it is there, else the one on PATH.
tool() { if [ -x ".venv/bin/$1" ]; then echo ".venv/bin/$1"; else command -v "$1" || stop "$1 is not installed; run scripts/setup.sh"; fi; }

# How many compilers to run: one needs up to 2 GB for a file with LibTorch's headers.
num_jobs() {
  local cores memory_gib
  cores=$(nproc)
  memory_gib=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
  local fitting=$((memory_gib / 2 > 0 ? memory_gib / 2 : 1))
  echo $((cores < fitting ? cores : fitting))
}
