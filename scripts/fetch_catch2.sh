#!/usr/bin/env bash
# shellcheck disable=SC2317,SC1091  # the two sources are called through a variable
# Puts Catch2 v3 (two amalgamated files and their licence) into third_party/catch2; see third_party/README.md.
# The distribution's own source package gives them: on Debian the one of Debian 13 (Debian 12 has v2), taken from the mirror that this machine
# uses already; on Ubuntu its own. apt checks the signatures, in folders of its own: nothing is installed and the system's lists stay as they are.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=third_party/catch2
release=https://github.com/catchorg/Catch2/archive/refs/tags/v3.7.1.tar.gz # where no apt answers
release_sha256=(
  "91d47e2ddfb2949df22ff582d6c292554184da743e11d3811dcdd06b5b0a159b  catch_amalgamated.hpp"
  "450fc5f213a87668f0f48c91a2afa4f4226186fef453d36e6fa3bc184ccdb9ba  catch_amalgamated.cpp"
)
files=(catch_amalgamated.hpp catch_amalgamated.cpp)

version_in() { sed -n 's|^// *Catch v\(3\.[0-9.]*\).*|\1|p' "$1/catch_amalgamated.hpp" 2>/dev/null | head -n 1; }

if [ -s "$folder/catch_amalgamated.cpp" ] && [ -n "$(version_in "$folder")" ]; then
  echo "Catch2 $(version_in "$folder") is in $folder already"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The archive of the source package through apt.
from_apt() {
  local id codename suite keyring mirror
  id=$(. /etc/os-release && echo "$ID")
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  case $id in
    debian) suite=trixie keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;;
    ubuntu) suite=$codename keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
    *) return 1 ;;
  esac
  # no "| head": apt-get would get SIGPIPE, which pipefail takes for a failure
  mirror=$(apt-get indextargets --format "\$(REPO_URI)" "Codename: $codename" | sed -n 1p)
  [ -n "$mirror" ] || return 1
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/none"
  printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main universe\nSigned-By: %s\n' "$mirror" "$suite" "$keyring" >"$work/catch2.sources"
  [ "$id" != debian ] || sed -i 's/ universe//' "$work/catch2.sources"
  local apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/catch2.sources" -o "Dir::Etc::sourceparts=$work/none" -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
  "${apt[@]}" update && (cd "$work" && "${apt[@]}" source --download-only catch2)
}

# The archive of the project's release page.
from_release_page() {
  python3 -c 'import sys, urllib.request; open(sys.argv[2], "wb").write(urllib.request.urlopen(sys.argv[1], timeout=30).read())' \
    "$release" "$work/release.orig.tar.gz"
}

unpack() {
  tar -xzf "$work"/*.orig.tar.gz -C "$work" --wildcards '*/extras/catch_amalgamated.*' '*/LICENSE.txt'
  mkdir -p "$work/found" && mv "$work"/*/extras/catch_amalgamated.* "$work"/*/LICENSE.txt "$work/found/"
  # the packaged versions are signed by the distribution; what comes over the web is checked against the pin
  [ "$1" = from_apt ] || (cd "$work/found" && printf '%s\n' "${release_sha256[@]}" | sha256sum --check --quiet)
}

for source in from_apt from_release_page; do
  if "$source" >"$work/$source.log" 2>&1 && unpack "$source" >>"$work/$source.log" 2>&1 && [ -n "$(version_in "$work/found")" ]; then
    mkdir -p "$folder"
    mv "${files[@]/#/$work/found/}" "$work/found/LICENSE.txt" "$folder/"
    echo "Catch2 $(version_in "$folder") is in $folder"
    exit 0
  fi
done
tail -n 5 "$work"/*.log >&2
echo "fetch_catch2.sh: no source of Catch2 v3 answered (above). Check the network, or put catch_amalgamated.hpp and .cpp of Catch2 3.7.1 into $folder by hand." >&2
exit 1
