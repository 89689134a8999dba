#!/usr/bin/env bash
# Lints metrics with promtool: names, units and helps, by Prometheus's own rules.
#
#   metrics_lint.sh <TEXT     TEXT is an answer of /metrics of the predictor or the operator
#
# promtool reads Prometheus' older text format, the programs answer in OpenMetrics. They differ in what the lines of a
# counter's help and type are called, which is put right before: without _total there, with it here.
set -euo pipefail
command -v promtool >/dev/null || { echo "promtool is needed: install Debian's package prometheus (make test-unit does)" >&2; exit 1; }
awk '
  $1 == "#" && $2 == "EOF" || $2 == "UNIT" { next }
  $1 == "#" && $2 == "HELP" { help = $0; next }
  $1 == "#" && $2 == "TYPE" {
    name = $3 ($4 == "counter" ? "_total" : "")
    sub(/^# HELP [^ ]+/, "# HELP " name, help)
    print help
    print "# TYPE", name, $4
    next
  }
  { print }
' | {
  # The guide gives this gauge its name.
  said=$(promtool check metrics 2>&1 || true)
  known='persistent_storage_files_total non-counter metrics should not have "_total" suffix'
  if found=$(grep -vxF -e "$known" -e '' <<<"$said"); then
    echo "$found" >&2
    exit 1
  fi
}
