#!/usr/bin/env bash
# Builds what the local cluster and the tests run from Go modules, each once,
# into the user's cache directory under a name that carries its version.
#
#   tools.sh [NAME…]   NAME: cluster helm local-path-provisioner coredns
#                      kubeconform kind versitygw prometheus promtool; default: those that the local cluster needs
#
# Prints the directory of the tools as its last line.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

kubernetes=1.37.2
declare -A module=(
  [helm]=helm.sh/helm/v4/cmd/helm@v4.3.1
  [local-path-provisioner]=github.com/rancher/local-path-provisioner@v0.0.30
  [coredns]=github.com/coredns/coredns@v1.15.0
  [kubeconform]=github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0
  [kind]=sigs.k8s.io/kind@v0.33.0
  [versitygw]=github.com/versity/versitygw/cmd/versitygw@v1.8.0
  [prometheus]=github.com/prometheus/prometheus/cmd/prometheus@v0.316.0
  [promtool]=github.com/prometheus/prometheus/cmd/promtool@v0.316.0
)
# Of Prometheus' ways to find targets only the one for Kubernetes, which Debian's package lacks: the others are libraries of every cloud.
declare -A tags=([prometheus]="remove_all_sd,enable_kubernetes_sd" [promtool]="remove_all_sd,enable_kubernetes_sd")
# What a cold build took on two cores; told before it starts, so that nobody thinks it hangs.
declare -A patience=([cluster]='about 10 minutes' [helm]='about 2 minutes' [coredns]='about 2 minutes'
  [local-path-provisioner]='about 1 minute' [kubeconform]='seconds' [kind]='seconds'
  [versitygw]='about 4 minutes' [prometheus]='about 4 minutes' [promtool]='about 1 minute, after prometheus')

cache=${STOCKPREDICTOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stockpredictor}
bin=$cache/bin
mkdir -p "$bin"

command -v go >/dev/null || {
  echo "Go 1.26 or newer is needed to build the cluster's components: install it and put 'go' on the PATH" >&2
  exit 1
}

say() { printf '%s\n' "$*" >&2; }

# build NAME FILE COMMAND…: runs COMMAND with GOBIN set to a scratch folder, then
# moves the binary NAME to FILE in one step, so that an interrupted build leaves nothing.
build() {
  local name=$1 file=$2 scratch started=$SECONDS
  shift 2
  scratch=$(mktemp -d "$cache/build.XXXXXX")
  say "building $(basename "$file") (cold: ${patience[$name]} on two cores; cached afterwards)…"
  if ! GOBIN=$scratch CGO_ENABLED=0 "$@" >"$scratch/log" 2>&1; then
    tail -n 30 "$scratch/log" >&2
    say "building $name failed; the log is $scratch/log"
    return 1
  fi
  mv "$scratch/$name" "$file"
  rm -rf "$scratch"
  say "built $(basename "$file") in $((SECONDS - started)) s"
}

build_components() {
  cd "$here/components" &&
    go build -mod=readonly -trimpath -o "$GOBIN/cluster" \
      -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$kubernetes" .
}

ensure() {
  local name=$1 file
  if [ "$name" = cluster ]; then
    file=$bin/cluster-$kubernetes-$(cat "$here"/components/{main.go,go.mod} | sha256sum | cut -c1-8)
    [ -x "$file" ] || build cluster "$file" build_components
    local component
    for component in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
      ln -sfn "$(basename "$file")" "$bin/$component"
    done
    return
  fi
  [ -n "${module[$name]:-}" ] || { say "tools.sh: unknown tool '$name'; known: cluster ${!module[*]}"; return 2; }
  file=$bin/$name-${module[$name]##*@}
  [ -x "$file" ] || build "$name" "$file" go install -trimpath -ldflags '-s -w' -tags "${tags[$name]:-}" "${module[$name]}"
  ln -sfn "$(basename "$file")" "$bin/$name"
}

# Two callers at once would build everything twice.
exec 9>"$cache/.lock"
flock -w 3600 9 || { say "another build of the tools has held $cache/.lock for an hour"; exit 1; }
[ $# -gt 0 ] || set -- cluster helm local-path-provisioner coredns
for tool in "$@"; do ensure "$tool"; done
echo "$bin"
