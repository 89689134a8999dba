#!/usr/bin/env bash
# The demo: from nothing to real predictions, and how to go on.
#
#   demo.sh up       cluster, images, chart, examples/stockpredictor.yaml, three predictions
#   demo.sh metrics  the main figures that the predictor and the operator export
#   demo.sh down     end the cluster that `up` started and remove its state
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
verb=${1:?demo.sh up|metrics|down}
cluster=(e2e/cluster/cluster.sh)
in_cluster() { "${cluster[@]}" run demo "$@"; }
step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

if [ "$verb" = down ]; then
  exec "${cluster[@]}" down demo
fi

# What a Prometheus would scrape, asked for through the API server.
metrics() {
  in_cluster kubectl get --raw "/api/v1/namespaces/$1/services/$2:http/proxy/metrics" |
    grep -E "^($3)(\{| )" || { echo "none of these figures: $3" >&2; return 1; }
}
if [ "$verb" = metrics ]; then
  step 'The predictor nvda'
  metrics default nvda 'persistent_storage_(size_bytes|files_total)|stockpredictor_(volume_(used|free|capacity)_bytes|predictions_total|cache_(hits|misses)_total|data_age_sessions|model_info|degraded)'
  step 'The operator'
  metrics stockpredictor stockpredictor 'backup_last_success_timestamp|stockpredictor_operator_(predictor_(ready|info)|reconciles_total|backup_(level|newest_size_bytes|expected_interval_seconds))'
  printf '\nEvery metric: docs/reference/metrics.md. Alerts and dashboards on them: docs/monitoring.md.\n'
  exit
fi

began=$SECONDS
kind=$("${cluster[@]}" kind-of demo)
mkdir -p target
# An existing cluster brings its own images.
if [ "$kind" != existing ]; then
  step 'Building the two images'
  make images
  # shellcheck source=/dev/null
  . target/images/env
fi

step 'Bringing up a cluster'
"${cluster[@]}" up demo
[ "$kind" = existing ] || "${cluster[@]}" load demo target/images/operator.tar target/images/predictor.tar

step 'Installing the chart'
in_cluster helm upgrade --install stockpredictor charts/stockpredictor \
  --namespace stockpredictor --create-namespace --wait --timeout 180s \
  --set image.repository="${OPERATOR_IMAGE%:*}" --set image.tag="${OPERATOR_IMAGE##*:}" \
  --set predictorImage.repository="${PREDICTOR_IMAGE%:*}" --set predictorImage.tag="${PREDICTOR_IMAGE##*:}" \
  >target/demo-helm.log || {
  cat target/demo-helm.log >&2
  in_cluster kubectl -n stockpredictor get pods >&2
  in_cluster kubectl -n stockpredictor logs deployment/stockpredictor --tail 20 >&2
  exit 1
}

step 'Applying examples/stockpredictor.yaml'
applied=$(date +%s%N)
in_cluster kubectl apply -f examples/stockpredictor.yaml
if ! in_cluster kubectl wait --for=condition=Ready stockpredictor/nvda --timeout=180s; then
  in_cluster kubectl describe stockpredictor/nvda >&2
  in_cluster kubectl get pods,pvc,events >&2
  exit 1
fi
printf 'Ready %s s after apply\n' "$(awk -v n=$((($(date +%s%N) - applied) / 1000000)) 'BEGIN {printf "%.1f", n / 1000}')"
in_cluster kubectl get sp

step 'Asking for predictions, through the Service'
# Readiness reaches the Service's endpoints a moment after the condition.
for symbol in NVDA TSLA AAPL; do
  answer=
  for _ in $(seq 20); do
    answer=$(in_cluster kubectl get --raw "/api/v1/namespaces/default/services/nvda:http/proxy/api/v1/predict/$symbol" 2>/dev/null) && break
    sleep 0.5
  done
  [ -n "$answer" ] || { echo "no prediction for $symbol: see 'kubectl describe sp nvda'" >&2; exit 1; }
  python3 -m json.tool <<<"$answer"
done

printf '\nDone in %s s. Go on:\n\n' $((SECONDS - began))
cat <<'TEXT'
  e2e/cluster/cluster.sh run demo bash           a shell where kubectl and helm talk to this cluster; in it:
    kubectl get sp                                 is it fine, and since when?
    kubectl describe sp nvda                       conditions and events, in words
    kubectl get --raw /api/v1/namespaces/default/services/nvda:http/proxy/api/v1/stats
    kubectl delete pod -l app.kubernetes.io/instance=nvda
                                                   the same answer comes back from the volume's cache
    kubectl edit sp nvda                           change the spec; the operator follows
  make demo-metrics                              the main figures; docs/monitoring.md has alerts and dashboards
  make demo-down                                 end the cluster
TEXT
