#!/usr/bin/env bash
# The same cluster on kind, where Docker is. Verbs as in local.sh: up, down, load, run NAME.
# The kubeconfig is a file of our own: the user's is never touched.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
verb=${1:?kind.sh up|down|load|run NAME} name=${2:?the name of the cluster is missing}
shift 2
dir=${STOCKPREDICTOR_CLUSTERS:-${XDG_STATE_HOME:-$HOME/.local/state}/stockpredictor}/kind-$name
cluster=stockpredictor-$name
# Names the cluster that `up` made here; only with it may a cluster be used or deleted.
marker=$dir/cluster
bin=${STOCKPREDICTOR_TOOLS:-$("$here/tools.sh" cluster helm kind | tail -n 1)}
export KUBECONFIG=$dir/kubeconfig PATH=$bin:$PATH

up() {
  local clusters scratch
  clusters=$(kind get clusters)
  if grep -qxF "$cluster" <<<"$clusters"; then
    [ -f "$marker" ] && return
    echo "a kind cluster '$cluster' exists that was not made by this: delete it (kind delete cluster --name $cluster) or rename it" >&2
    return 1
  fi
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$scratch'" EXIT
  KUBECONFIG=$scratch/kubeconfig kind create cluster --name "$cluster" --config "$here/../../kind-config.yaml" --wait 180s
  mkdir -p "$dir"
  mv "$scratch/kubeconfig" "$KUBECONFIG"
  echo "$cluster" >"$marker"
}

down() {
  [ -f "$marker" ] || return 0
  kind delete cluster --name "$(cat "$marker")"
  rm -rf "$dir"
}

case $verb in
  up | down) "$verb" ;;
  load) for tar in "$@"; do kind load image-archive "$tar" --name "$cluster"; done ;;
  run) exec "$@" ;;
  *) echo "kind.sh: unknown verb '$verb': up, down, load or run" >&2; exit 2 ;;
esac
