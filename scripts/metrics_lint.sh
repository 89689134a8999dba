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
  $1 == "#" && $2 == "TYPE" { families++ }
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
  END { if (!families) { print "there are no metrics in it" >"/dev/stderr"; exit 1 } }
' | {
  said=$(promtool check metrics 2>&1) && result=0 || result=$?
  # The guide gives this gauge its name.
  known='persistent_storage_files_total non-counter metrics should not have "_total" suffix'
  found=$(grep -vxF -e "$known" -e '' <<<"$said" || true)
  # 3 means that something was said; whatever else isn't 0 is no lint at all.
  case $result in
    0) ;;
    3) [ -z "$found" ] || { echo "$found" >&2; exit 1; } ;;
    *) echo "promtool ended with $result: $said" >&2; exit 1 ;;
  esac
}
