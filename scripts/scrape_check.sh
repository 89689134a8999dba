#!/usr/bin/env bash
# Whom the chart's Prometheus would scrape, and under which labels: pods as the operator makes them on an API server
# (KUBECONFIG), found by Prometheus' own discovery with the chart's configuration.
#
#   scrape_check.sh PROMETHEUS_YML   the configuration; its rules lie where it says. Needs promtool with Kubernetes' discovery.
set -euo pipefail
config=${1:?scrape_check.sh PROMETHEUS_YML}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { printf 'scrape_check.sh: %s\n' "$*" >&2; exit 1; }

pod() { # NAMESPACE NAME ADDRESS ANNOTATIONS LABELS…
  local namespace=$1 name=$2 address=$3 annotations=$4 label
  shift 4
  {
    printf 'apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: %s\n  annotations: {%s}\n  labels:\n' "$name" "$namespace" "$annotations"
    for label in "$@"; do printf '    app.kubernetes.io/%s: %s\n' "${label%%=*}" "${label#*=}"; done
    cat <<'YAML'
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1001, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: main
      image: localhost/nothing
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      ports: [{name: http, containerPort: 8080}, {name: other, containerPort: 9999}]
YAML
  } | kubectl apply -f - >/dev/null
  # No kubelet says that it runs.
  kubectl patch pod "$name" --namespace "$namespace" --subresource status --type merge \
    --patch "{\"status\": {\"phase\": \"Running\", \"podIP\": \"$address\", \"podIPs\": [{\"ip\": \"$address\"}]}}" >/dev/null
}
pod sys operator 10.0.0.1 '' name=stockpredictor-operator instance=stockpredictor
pod sys stranger 10.0.0.2 '' name=stockpredictor-operator instance=another
pod a nvda-1 10.0.0.3 '' name=stockpredictor component=predictor instance=nvda
pod b banks-1 10.0.0.4 '' name=stockpredictor component=predictor instance=banks
pod a quiet-1 10.0.0.5 'prometheus.io/scrape: "false"' name=stockpredictor component=predictor instance=quiet
pod a nvda-backup 10.0.0.6 '' name=stockpredictor-job component=backup instance=nvda

# The discovery of a pod reads its account; here it reads the kubeconfig.
sed "s#^\( *\)- role: pod#&\n\1  kubeconfig_file: $KUBECONFIG#" "$config" >"$scratch/prometheus.yml"
targets() { # JOB: what it would scrape, a line each
  timeout 60 promtool check service-discovery --timeout=10s "$scratch/prometheus.yml" "$1" | python3 -c '
import json, sys
for one in json.load(sys.stdin):
    labels = one.get("labels") or {}
    if labels:
        print(*(labels.get(name, "-") for name in ("__address__", "__metrics_path__", "namespace", "predictor", "pod")))
' | sort
}
expect() { # JOB LINES
  local found
  found=$(targets "$1")
  [ "$found" = "$2" ] || fail "$1 would scrape
$found
and should scrape
$2"
}
expect stockpredictor/operator '10.0.0.1:8080 /metrics sys - operator'
expect stockpredictor/predictors '10.0.0.3:8080 /metrics a nvda nvda-1
10.0.0.4:8080 /metrics b banks banks-1'
kubectl delete pod --all --namespace sys --grace-period=0 --force >/dev/null 2>&1
kubectl delete pod --all --namespace a --grace-period=0 --force >/dev/null 2>&1
kubectl delete pod --all --namespace b --grace-period=0 --force >/dev/null 2>&1
