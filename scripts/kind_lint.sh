#!/usr/bin/env bash
# Whether kind understands kind-config.yaml, and whether e2e/cluster/kind.sh touches only what it made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# kind decodes the file before it looks for Docker, and refuses fields that it does not know;
# without a PATH it finds no Docker, so nothing is created.
kind=$(e2e/cluster/tools.sh kind | tail -n 1)/kind
answer=$(timeout 30 env -i PATH=/nonexistent "$kind" create cluster --name lint --config kind-config.yaml 2>&1) || true
case $answer in
  *'decode config'* | *'invalid configuration'*) printf 'kind-config.yaml: %s\n' "$answer" >&2; exit 1 ;;
  *docker* | *podman* | *provider*) ;;
  *) printf 'kind said something unexpected about kind-config.yaml: %s\n' "$answer" >&2; exit 1 ;;
esac

# A stand-in for kind: clusters are the lines of a file.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
cat >"$scratch/bin/kind" <<'KIND'
#!/bin/sh
set -eu
case "$1 $2" in
  'get clusters') cat "$CLUSTERS" ;;
  'create cluster')
    [ ! -e "$CLUSTERS.broken" ] || exit 1
    echo "$4" >>"$CLUSTERS"
    echo "a kubeconfig" >"$KUBECONFIG"
    ;;
  'delete cluster') sed -i "/^$4\$/d" "$CLUSTERS" ;;
esac
KIND
chmod +x "$scratch/bin/kind"
export CLUSTERS=$scratch/clusters STOCKPREDICTOR_TOOLS=$scratch/bin STOCKPREDICTOR_CLUSTERS=$scratch/state
fail() { printf 'e2e/cluster/kind.sh: %s\n' "$*" >&2; exit 1; }
kind() { e2e/cluster/kind.sh "$@" >/dev/null 2>&1; }
clusters() { tr '\n' ' ' <"$CLUSTERS"; }

printf '%s\n' other stockpredictor-x >"$CLUSTERS"
! kind up x || fail 'up takes a cluster that it did not make'
kind down x
[ "$(clusters)" = 'other stockpredictor-x ' ] || fail "down ended a cluster that up did not make: $(clusters)"
echo other >"$CLUSTERS"
touch "$CLUSTERS.broken"
! kind up x || fail 'up succeeds though kind did not'
[ ! -e "$STOCKPREDICTOR_CLUSTERS" ] || fail 'a failed up leaves a state folder'
rm "$CLUSTERS.broken"
for _ in 1 2; do kind up x || fail 'up fails'; done
[ "$(clusters)" = 'other stockpredictor-x ' ] || fail "up, twice, made: $(clusters)"
# shellcheck disable=SC2016 # for the shell inside
[ "$(e2e/cluster/kind.sh run x sh -c 'cat "$KUBECONFIG"')" = 'a kubeconfig' ] || fail 'run has no kubeconfig'
for _ in 1 2; do kind down x || fail 'down fails'; done
[ "$(clusters)" = 'other ' ] || fail "after down there are: $(clusters)"
[ ! -e "$STOCKPREDICTOR_CLUSTERS/kind-x" ] || fail 'down leaves its state'
