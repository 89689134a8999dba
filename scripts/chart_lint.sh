#!/usr/bin/env bash
# Checks the chart: its table of values, helm lint, and each set of values of
# charts/stockpredictor/ci on a real API server, where namespaces enforce the
# restricted Pod Security Standard; the rights that it gives against the list of
# charts/stockpredictor/ci/rights.txt (RIGHTS=accept rewrites that list); then the life
# of the definitions there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
chart=charts/stockpredictor
# Whose definitions of PodMonitor and PrometheusRule the objects must meet.
prometheus_operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
fail() { printf 'chart: %s\n' "$*" >&2; exit 1; }

if [ "${1:-}" != inside ]; then
  python3 scripts/chart_values.py --check
  tools=${STOCKPREDICTOR_TOOLS:-$(e2e/cluster/tools.sh cluster helm promtool | tail -n 1)}
  export STOCKPREDICTOR_TOOLS=$tools PATH=$tools:$PATH
  # Helm's caches and settings of the user stay out of it.
  home=$(mktemp -d)
  trap 'rm -rf "$home"' EXIT
  export HELM_CACHE_HOME=$home/cache HELM_CONFIG_HOME=$home/config HELM_DATA_HOME=$home/data
  for values in "$chart"/ci/*.yaml; do
    helm lint --strict --quiet "$chart" --values "$values"
  done
  for refused in concurrency=0 concurency=4 image.pullPolicy=Sometimes 'watchNamespaces={Upper}' image.digest=latest \
    monitoring.interval=often monitoring.runbookUrl=here 'monitoring.prometheus.alertmanagers={nowhere}'; do
    ! helm template "$chart" --set "$refused" >/dev/null 2>&1 || fail "values.schema.json accepts $refused"
  done
  definitions=$(go mod download -json "$prometheus_operator" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')/example/prometheus-operator-crd
  export STOCKPREDICTOR_MONITORING_DEFINITIONS=$definitions
  # The whole workspace, as everywhere: another choice of features would compile the dependencies again.
  cargo build --locked --release --workspace --example with_apiserver
  timeout 900 "${CARGO_TARGET_DIR:-target}/release/examples/with_apiserver" scripts/chart_lint.sh inside
  exit
fi

# From here on KUBECONFIG is that of an empty API server without controllers.
scratch=$(mktemp -d) rights=$chart/ci/rights.txt
log=$scratch/log
trap 'rm -rf "$scratch"' EXIT
quietly() { "$@" >"$log" 2>&1 || { cat "$log" >&2; fail "this failed: $*"; }; }
refuses() { # TEXT COMMAND…: the command must fail and say TEXT
  local text=$1
  shift
  if "$@" >"$log" 2>&1; then fail "this should have been refused: $*"; fi
  grep -qF -- "$text" "$log" || { cat "$log" >&2; fail "'$text' is missing in the answer to: $*"; }
}
may() { [ "$(kubectl auth can-i "$@" --as system:serviceaccount:sys:stockpredictor 2>/dev/null)" = yes ]; }
install() { quietly helm upgrade --install stockpredictor "$chart" --namespace sys "$@"; }
uninstall() { quietly helm uninstall stockpredictor --namespace sys; }
crd=stockpredictors.stockpredictor.io

for namespace in sys a b; do
  quietly kubectl create namespace "$namespace"
  quietly kubectl label namespace "$namespace" pod-security.kubernetes.io/{enforce,warn}=restricted
done

for kind in podmonitors prometheusrules; do
  quietly kubectl apply --server-side -f "$STOCKPREDICTOR_MONITORING_DEFINITIONS/monitoring.coreos.com_$kind.yaml"
  quietly kubectl wait --for=condition=Established --timeout=30s "crd/$kind.monitoring.coreos.com"
done

for values in "$chart"/ci/*.yaml; do
  helm template stockpredictor "$chart" --namespace sys --values "$values" |
    kubectl apply --server-side --dry-run=server --warnings-as-errors -f - >"$log" 2>&1 ||
    { cat "$log" >&2; fail "the API server refuses the objects of $values"; }
done

# Prometheus' own view of its configuration and of the rules, as they are mounted; whom it would scrape; and links to runbooks as the values say.
for values in "$chart"/ci/monitoring*.yaml; do
  helm template stockpredictor "$chart" --namespace sys --values "$values" --show-only templates/monitoring/prometheus-config.yaml |
    kubectl create --dry-run=client --output json -f - | python3 -c '
import json, pathlib, sys
for name, text in json.load(sys.stdin)["data"].items():
    pathlib.Path(sys.argv[1], name).write_text(text.replace("/etc/prometheus", sys.argv[1]))
' "$scratch"
  quietly promtool check config "$scratch/prometheus.yml"
  scripts/scrape_check.sh "$scratch/prometheus.yml"
done
helm template stockpredictor "$chart" --namespace sys --values "$chart/ci/monitoring.yaml" >"$scratch/monitoring"
[ "$(grep -c 'https://wiki.example.com/runbooks' "$scratch/monitoring")" -ge 4 ] || fail 'monitoring.runbookUrl does not reach the dashboards'
! grep -q 'blob/main/docs/runbooks' "$scratch/monitoring" || fail 'a link to the runbooks is not that of monitoring.runbookUrl'

# What the operator may do is a promise: more of it, or less, is a decision and no accident.
for values in "$chart"/ci/*.yaml; do
  helm template stockpredictor "$chart" --namespace sys --values "$values" |
    kubectl create --dry-run=client --output json -f - | python3 scripts/chart_rights.py "$(basename "$values")"
done >"$scratch/rights.txt"
if [ "${RIGHTS:-}" = accept ]; then cp "$scratch/rights.txt" "$rights"; fi
diff -u "$rights" "$scratch/rights.txt" >&2 ||
  fail "the rights of the operator are not those of $rights; if that is meant, accept them: RIGHTS=accept scripts/chart_lint.sh"

# Definitions by kubectl first; then a release that leaves them alone, and one that takes them over.
quietly kubectl apply -f crds/
refuses 'exists and cannot be imported' helm install stockpredictor "$chart" --namespace sys
install --set crds.install=false
may list stockpredictors --all-namespaces || fail 'the operator may not list StockPredictors'
! may get secrets --namespace a || fail 'the operator may read Secrets'
may list storagebackups --all-namespaces || fail 'the operator may not list StorageBackups'
may create jobs.batch --namespace a || fail 'the operator may not begin a backup'
! may create pods --namespace a || fail 'the operator may make pods by itself'
! may delete stockpredictors --namespace a || fail 'the operator may delete StockPredictors'
uninstall
install --take-ownership --force-conflicts
quietly kubectl wait --for=condition=Established --timeout=30s "crd/$crd"
quietly kubectl wait --for=condition=Established --timeout=30s crd/storagebackups.stockpredictor.io
quietly kubectl apply -f examples/stockpredictor.yaml --namespace a
quietly kubectl apply -f examples/backups/ --namespace a
[ "$(kubectl get crd $crd -o 'jsonpath={.metadata.labels.app\.kubernetes\.io/managed-by}')" = Helm ] ||
  fail 'the release did not take the definitions over'

# Neither switching them off nor an uninstall may take the definitions, and every object with them.
install --set crds.install=false
quietly kubectl get sp/nvda --namespace a
install
uninstall
quietly kubectl get sp/nvda --namespace a

# A changed definition comes with an upgrade, with objects of it in place.
columns() { kubectl get crd $crd -o 'jsonpath={.spec.versions[*].additionalPrinterColumns[*].name}'; }
cp -r "$chart" "$scratch/older"
python3 - "$scratch/older/files/crds/stockpredictors.yaml" <<'PYTHON'
import re, sys
path = sys.argv[1]
text = open(path, encoding="utf-8").read()
older, cut = re.subn(r"    - description: [^\n]*\n      jsonPath: [^\n]*\n      name: Used\n      type: string\n", "", text)
assert cut == 1, "the column Used is not where this test looks for it"
open(path, "w", encoding="utf-8").write(older)
PYTHON
# kubectl applied the definitions above and owns their fields too, until they change for the first time.
refuses 'conflict' helm upgrade --install stockpredictor "$scratch/older" --namespace sys
quietly helm upgrade --install stockpredictor "$scratch/older" --namespace sys --force-conflicts
[[ " $(columns) " != *' Used '* ]] || fail 'the older chart has the column that it should not have'
install
[[ " $(columns) " = *' Used '* ]] || fail "helm upgrade leaves the definitions as they were; columns: $(columns)"
quietly kubectl get sp/nvda --namespace a
uninstall

# Prometheus finds pods and nothing else; its series outlive an uninstall.
install --values "$chart/ci/monitoring.yaml"
scraper=system:serviceaccount:sys:stockpredictor-prometheus
[ "$(kubectl auth can-i list pods --all-namespaces --as $scraper 2>/dev/null)" = yes ] || fail 'Prometheus may not list pods'
[ "$(kubectl auth can-i get pods --all-namespaces --as $scraper 2>/dev/null)" = no ] || fail 'Prometheus may get pods'
uninstall
quietly kubectl get persistentvolumeclaim/stockpredictor-prometheus --namespace sys
install --values "$chart/ci/monitoring.yaml"
uninstall

# Only the named namespaces.
install --values "$chart/ci/namespaces.yaml"
may list stockpredictors --namespace a || fail 'the operator may not list StockPredictors in a'
! may list stockpredictors --namespace sys || fail 'the operator may look into namespaces that watchNamespaces does not name'
! may list stockpredictors --all-namespaces || fail 'watchNamespaces is set, and the operator may still look everywhere'
uninstall
[ -z "$(kubectl get clusterroles,clusterrolebindings -o name | grep stockpredictor || true)" ] ||
  fail 'an uninstall leaves cluster roles behind'
