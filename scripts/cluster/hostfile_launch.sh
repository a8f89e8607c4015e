#!/usr/bin/env bash
# Machines without a batch system:  scripts/cluster/hostfile_launch.sh HOSTFILE RECIPE [key.path=value ...]
# HOSTFILE has lines HOST slots=N. Checks first what such a run needs: that every host is reached by ssh without a password and has the same
# dsft at the same place, and the recipe (a shared file system, or the same files everywhere).
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 HOSTFILE RECIPE [key.path=value ...]" >&2; exit 2; }
hostfile=$1
recipe=$2
shift 2
dsft=$(command -v dsft) || { echo "dsft is not on PATH" >&2; exit 2; }
wanted=$("$dsft" --version)
failed=0
while read -r host _ || [ -n "$host" ]; do
  case $host in '' | '#'* | localhost | "$(hostname)" | "$(hostname -s)") continue ;; esac
  # shellcheck disable=SC2029  # both are this machine's
  if ! found=$(ssh -n -o BatchMode=yes -o ConnectTimeout=10 "$host" "cd '$PWD' && test -e '$recipe' && '$dsft' --version"); then
    echo "$host: no ssh without a password, or no $PWD/$recipe or $dsft there" >&2
    failed=1
  elif [ "$found" != "$wanted" ]; then
    echo "$host: has $found, and this machine $wanted" >&2
    failed=1
  fi
done <"$hostfile"
[ "$failed" = 0 ] || exit 6
exec "$dsft" launch --hostfile "$hostfile" --max-restarts 3 "$recipe" "$@"
