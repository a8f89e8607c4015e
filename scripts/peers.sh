# shellcheck shell=bash
# Sourced by scripts that compare with the peers: installs them into .venv-peers once and sets `peer_python`.
#   DSFT_PEERS=DIR     use this virtual environment instead

install_peers() {
  peer_python=${DSFT_PEERS:-.venv-peers}/bin/python
  if [ -n "${DSFT_PEERS:-}" ]; then
    [ -x "$peer_python" ] || stop "DSFT_PEERS=$DSFT_PEERS has no bin/python"
    return
  fi
  if [ "$(cat .venv-peers/installed 2>/dev/null)" = "$(sha256sum <requirements-peers.txt)" ]; then return; fi
  step "Installing the peers into .venv-peers (about 3 GB to download)"
  [ -x .venv-peers/bin/pip ] || python3 -m venv .venv-peers || stop "python3 could not make .venv-peers (above); remove it and run this again"
  .venv-peers/bin/pip --disable-pip-version-check install --no-input -r requirements-peers.txt ||
    stop "pip could not install the peers (above); check the network, then run this again"
  sha256sum <requirements-peers.txt >.venv-peers/installed
}
