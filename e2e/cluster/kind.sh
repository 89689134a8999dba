#!/usr/bin/env bash
# The same cluster on kind, where Docker is. Verbs as in local.sh: up, down, load, run NAME.
# The kubeconfig is a file of our own: the user's is never touched.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
verb=${1:?kind.sh up|down|load|run NAME} name=${2:?the name of the cluster is missing}
shift 2
dir=${STOCKPREDICTOR_CLUSTERS:-${XDG_STATE_HOME:-$HOME/.local/state}/stockpredictor}/kind-$name
cluster=stockpredictor-$name
bin=$("$here/tools.sh" cluster helm kind | tail -n 1)
export KUBECONFIG=$dir/kubeconfig PATH=$bin:$PATH

case $verb in
  up)
    mkdir -p "$dir"
    kind get clusters 2>/dev/null | grep -qx "$cluster" ||
      kind create cluster --name "$cluster" --config "$here/../../kind-config.yaml" --wait 180s
    ;;
  down)
    # Only a cluster that `up` made here has a state folder here.
    if [ -d "$dir" ]; then
      kind delete cluster --name "$cluster"
      rm -rf "$dir"
    fi
    ;;
  load) for tar in "$@"; do kind load image-archive "$tar" --name "$cluster"; done ;;
  run) exec "$@" ;;
  *) echo "kind.sh: unknown verb '$verb': up, down, load or run" >&2; exit 2 ;;
esac
