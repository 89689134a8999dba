#!/usr/bin/env bash
# The tests on a real cluster: brings it up, installs the chart, runs the suite,
# takes the cluster down again. KEEP=1 leaves it up; TEST=name runs one test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# The tests make certificates for the S3 server that they bring, and ask for the dashboards' queries.
scripts/packages.sh openssl=openssl python3=python3
cluster=(e2e/cluster/cluster.sh)
kind=$("${cluster[@]}" kind-of e2e)
# An existing cluster brings its own images.
if [ "$kind" != existing ]; then
  # shellcheck source=/dev/null
  . target/images/env
  TOOLBOX_IMAGE=$(scripts/e2e_image.sh toolbox | tail -n 1)
  PROMETHEUS_IMAGE=$(scripts/e2e_image.sh prometheus | tail -n 1)
else
  : "${TOOLBOX_IMAGE:?CLUSTER=existing needs TOOLBOX_IMAGE, which the cluster can pull: scripts/e2e_image.sh builds it}"
  : "${PROMETHEUS_IMAGE:=quay.io/prometheus/prometheus:v3.16.0}"
fi
# The workspace's features, so that no dependency is compiled again.
suite=(--locked --release --workspace --test backing_up --test charting --test explaining --test modelling --test monitoring --test reconciling --test refusing --test restoring --test scaling --test serving)
cargo test "${suite[@]}" --no-run

finish() {
  status=$?
  if [ $status -ne 0 ]; then
    mkdir -p target/e2e
    "${cluster[@]}" run e2e kubectl get stockpredictors,pods,pvc,events -A -o wide >target/e2e/objects.txt 2>&1 || true
    "${cluster[@]}" run e2e kubectl -n stockpredictor logs deployment/stockpredictor --tail=-1 >target/e2e/operator.log 2>&1 || true
    echo "failed; objects and the operator's log are in target/e2e/" >&2
  fi
  [ -n "${KEEP:-}" ] || "${cluster[@]}" down e2e
  exit $status
}
trap finish EXIT
"${cluster[@]}" up e2e
if [ "$kind" = existing ] && "${cluster[@]}" run e2e kubectl get crd stockpredictors.stockpredictor.io >/dev/null 2>&1; then
  echo 'this cluster already has stockpredictor, and the tests install and remove it: use another cluster' >&2
  exit 1
fi
[ "$kind" = existing ] || "${cluster[@]}" load e2e target/images/{operator,predictor,toolbox,prometheus}.tar
export OPERATOR_IMAGE PREDICTOR_IMAGE TOOLBOX_IMAGE PROMETHEUS_IMAGE CLUSTER=$kind
# The suite installs the chart itself: that is one of the things it tests.
timeout 2700 "${cluster[@]}" run e2e cargo test --offline --no-fail-fast "${suite[@]}" -- --ignored --test-threads 4 ${TEST:+"$TEST"}
