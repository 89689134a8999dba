#!/usr/bin/env bash
# The alert rules: promtool reads them and runs their tests, and rules_check.py compares them with the metrics, the runbooks
# and the list of tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Only promtool is wanted. Where systemd runs, Debian's package also starts a server: `systemctl disable --now prometheus`.
scripts/packages.sh promtool=prometheus python3=python3
chart=charts/stockpredictor
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { cat "$log" >&2; echo "rules: this failed: $*" >&2; exit 1; }; }

python3 scripts/rules_check.py
quietly promtool check rules "$chart/files/rules.yaml"
# The queries of the pages are read as rules, so that each is at least one that Prometheus understands.
queries=$(mktemp --suffix .yaml)
trap 'rm -f "$log" "$queries"' EXIT
python3 scripts/rules_check.py --promql >"$queries"
quietly promtool check rules "$queries"
# A file is a process: the tests that last for days take seconds each.
tests() { printf '%s\0' "$chart"/ci/rules/*.yaml | xargs -0 -n 1 -P "$(nproc)" promtool test rules; }
quietly tests
