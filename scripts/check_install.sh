#!/usr/bin/env bash
# Installs a build into a temporary folder and runs the programs there, from another folder: help, `dsft env`, recipes with their templates, and,
# where LibTorch is built in, whether dsft-trainer finds it by its own rpath.
# Usage: check_install.sh CMAKE BUILD_DIR       (run by ctest: "install")
set -euo pipefail

cmake=${1:?usage: check_install.sh CMAKE BUILD_DIR}
build=$(realpath "${2:?usage: check_install.sh CMAKE BUILD_DIR}")
stop() {
  echo "check_install: $*" >&2
  exit 1
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$cmake" --install "$build" --prefix "$folder/prefix" >"$folder/log" || stop "cmake --install failed: $(cat "$folder/log")"
mkdir "$folder/elsewhere"
cd "$folder/elsewhere"
unset LD_LIBRARY_PATH DSFT_TRAINER
dsft=$folder/prefix/bin/dsft
trainer=$folder/prefix/bin/dsft-trainer

help=$("$dsft" --help)
grep -q launch <<<"$help" || stop "bin/dsft --help does not list the commands"
facts=$("$dsft" env) || stop "bin/dsft env failed"
"$dsft" recipes smollm2_135m_function_calling >recipe.yaml 2>hint
template=$(sed -n 's/.*chat_template: *\(recipes[^ ]*\).*/\1/p' recipe.yaml)
[ -f "$folder/prefix/share/dsft/$template" ] || stop "share/dsft/$template, which the recipe reads, is not installed"
bash -c "PATH=$folder/prefix/bin:\$PATH; $(grep '^  mkdir' hint)" || stop "the commands that 'dsft recipes' gives for $template failed: $(cat hint)"
cmp "$template" "$folder/prefix/share/dsft/$template" || stop "'dsft recipes' prints another $template than the one installed"
"$dsft" check --config-only recipe.yaml >/dev/null || stop "the printed recipe has faults"

if grep -q '^libtorch *not built in' <<<"$facts"; then
  echo "check_install: dsft alone, for this build has no LibTorch"
  exit 0
fi
grep -q "^trainer *$trainer$" <<<"$facts" || stop "bin/dsft does not take the dsft-trainer beside it: $facts"
libtorch=$(sed -n 's/^libtorch .* at //p' <<<"$facts")
rpath=$(readelf -d "$trainer" | grep -F '(RPATH)' || true)
grep -qF "$libtorch/lib" <<<"$rpath" || stop "dsft-trainer has no rpath to $libtorch/lib"
loaded=$(ldd "$trainer")
! grep 'not found' <<<"$loaded" >&2 || stop "libraries of dsft-trainer are missing (above)"
grep -qF "$libtorch/lib/libtorch_cpu.so" <<<"$loaded" || stop "dsft-trainer loads another LibTorch than $libtorch"
"$trainer" --help >/dev/null || stop "dsft-trainer does not start"
echo "check_install: both programs run from where they are installed"
