#!/usr/bin/env bash
# Compares the service with Python's onnxruntime on the same files: twenty windows,
# features computed from docs/model.md. Builds nothing; the program is $1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
predictor=${1:-target/release/predictor}
[ -x "$predictor" ] || { echo "$predictor is not there: build it first (make build), or name another program" >&2; exit 1; }
here=predictor/tests/independent
venv=target/independent/venv
# The environment is made anew when what it needs changes, or when it was left half made.
wanted=$(sha256sum "$here/requirements.txt" | cut -d' ' -f1)
if [ "$(cat "$venv/complete" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$venv"
  scripts/packages.sh python3=python3
  # Debian keeps what venv needs in a package of its own.
  scripts/packages.sh "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/ensurepip=python3-venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes --requirement "$here/requirements.txt"
  echo "$wanted" >"$venv/complete"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$venv/bin/python" "$here/check.py" "$predictor" "$scratch" examples/data
