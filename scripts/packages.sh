#!/usr/bin/env bash
# Installs the Debian packages behind the commands that are missing, and says so.
#
#   packages.sh COMMAND=PACKAGE…   e.g. packages.sh buildah=buildah ctr=containerd
#   A COMMAND with a slash is a file that must exist.
set -euo pipefail
missing=()
for pair in "$@"; do
  wanted=${pair%%=*} package=${pair#*=}
  case $wanted in
    */*) [ -e "$wanted" ] || missing+=("$package") ;;
    *) command -v "$wanted" >/dev/null || missing+=("$package") ;;
  esac
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "missing: ${missing[*]}. Install these Debian packages (or your distribution's), as root, and run this again" >&2
  exit 1
fi
echo "installing Debian packages: ${missing[*]}…" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { timeout 300 apt-get -qq update && timeout 900 apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "installing ${missing[*]} failed" >&2
  exit 1
fi
