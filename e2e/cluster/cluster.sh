#!/usr/bin/env bash
# The cluster that demo and tests run on: one front for three kinds of it.
#
#   cluster.sh up|down NAME
#   cluster.sh load NAME TAR…      make images (docker-archive) known to it
#   cluster.sh run NAME COMMAND…   run COMMAND with KUBECONFIG (and helm, kubectl on the PATH) set
#   cluster.sh kind-of NAME        print which kind it is
#
# CLUSTER chooses: `local` (real components, no Docker), `kind`, or `existing`
# (the cluster of KUBECONFIG: it must be able to pull OPERATOR_IMAGE and
# PREDICTOR_IMAGE; nothing is created or deleted there but what the tests make).
# Unset: kind where a Docker daemon answers, else local. KUBECONFIG alone never
# chooses a cluster, so that nobody's production is taken for a test cluster.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
verb=${1:?cluster.sh up|down|load|run|kind-of NAME} name=${2:?the name of the cluster is missing}
shift 2

kind=${CLUSTER:-}
if [ -z "$kind" ]; then
  if command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1; then kind=kind; else kind=local; fi
fi

case $kind in
  local) [ "$verb" = kind-of ] || exec "$here/local.sh" "$verb" "$name" "$@" ;;
  kind) [ "$verb" = kind-of ] || exec "$here/kind.sh" "$verb" "$name" "$@" ;;
  existing)
    case $verb in
      up | load | run) : "${KUBECONFIG:?CLUSTER=existing needs KUBECONFIG}" ;;
    esac
    case $verb in
      up) : "${OPERATOR_IMAGE:?CLUSTER=existing needs OPERATOR_IMAGE, which the cluster can pull}" "${PREDICTOR_IMAGE:?CLUSTER=existing needs PREDICTOR_IMAGE, which the cluster can pull}" ;;
      load) echo "CLUSTER=existing: not loading images; the cluster pulls $OPERATOR_IMAGE and $PREDICTOR_IMAGE" >&2 ;;
      run)
        bin=$("$here/tools.sh" cluster helm | tail -n 1)
        PATH=$bin:$PATH exec "$@"
        ;;
    esac
    ;;
  *) echo "CLUSTER is local, kind or existing, not '$kind'" >&2; exit 2 ;;
esac
[ "$verb" != kind-of ] || echo "$kind"
