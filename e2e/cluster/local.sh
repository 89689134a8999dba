#!/usr/bin/env bash
# A one-node Kubernetes cluster of the real components, for machines without
# Docker. It lives in a network namespace of its own: nothing in it reaches past
# this machine, several can run side by side, and their ports never meet.
#
#   local.sh up NAME              bring it up, or leave it as it is when it is up
#   local.sh down NAME            end what `up` started, by its pids, and remove its state
#   local.sh load NAME TAR…       import images (docker-archive)
#   local.sh run NAME COMMAND…    run COMMAND inside its network, with KUBECONFIG and PATH set
#
# Needs root: namespaces, containerd and kubelet do.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
verb=${1:?local.sh up|down|load|run NAME} name=${2:?the name of the cluster is missing}
shift 2
[[ $name =~ ^[a-z0-9]{1,12}$ ]] || { echo "a cluster's name has 1 to 12 lower-case letters or digits, not '$name'" >&2; exit 2; }

dir=${STOCKPREDICTOR_CLUSTERS:-${XDG_STATE_HOME:-$HOME/.local/state}/stockpredictor}/$name
netns=sp-$name
# Addresses are inside the namespace only, so every cluster may have the same.
node_ip=192.168.200.1 pods=10.244.0.0/24 services=10.96.0.0/16 api_ip=10.96.0.1
cgroup=stockpredictor-$name
socket=$dir/run/containerd.sock

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
in_netns() { nsenter --net="/run/netns/$netns" "$@"; }
kubectl() { in_netns timeout 20 "$bin/kubectl" --kubeconfig "$dir/admin.kubeconfig" "$@"; }

# wait_for SECONDS WHAT COMMAND…: polls COMMAND; on time-out says what it waited for and where to look.
wait_for() {
  local limit=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || die "$what: not within $limit s; the logs are in $dir/log"
    sleep 0.3
  done
}

# A pid file names the process and its start time, so that a pid that was reused
# after a reboot is never mistaken for ours.
started_at() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null; }
start() {
  local component=$1
  shift
  setsid nsenter --net="/run/netns/$netns" "$@" >"$dir/log/$component.log" 2>&1 </dev/null 9>&- &
  echo "$! $(started_at $!)" >"$dir/run/$component.pid"
}
is_running() {
  local pid at
  [ -f "$dir/run/$1.pid" ] || return 1
  read -r pid at <"$dir/run/$1.pid"
  [ -n "$at" ] && [ "$(started_at "$pid")" = "$at" ]
}
# SIGKILL: the cluster is thrown away, and kube-apiserver takes up to a minute to stop politely.
stop() {
  local pid at
  is_running "$1" || return 0
  read -r pid at <"$dir/run/$1.pid"
  kill -KILL "$pid" 2>/dev/null || true
  for _ in $(seq 50); do [ -d "/proc/$pid" ] || return 0; sleep 0.1; done
}

make_network() {
  ip netns add "$netns"
  in_netns ip link set lo up
  # A bridge carries the node's address: kernel modules for dummy devices may be missing.
  in_netns ip link add node0 type bridge
  in_netns ip addr add "$node_ip/24" dev node0
  in_netns ip link set node0 up
  # kubelet and CNI want a default route; this one leads nowhere.
  in_netns ip route add default via 192.168.200.254
  in_netns sysctl -qw net.ipv4.ip_forward=1
}

certificate() { # NAME SUBJECT SANS
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}
kubeconfig() { # NAME
  cat >"../$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: "$name", cluster: {server: "https://127.0.0.1:6443", certificate-authority: "$PWD/ca.crt"}}]
users: [{name: "$1", user: {client-certificate: "$PWD/$1.crt", client-key: "$PWD/$1.key"}}]
contexts: [{name: "$name", context: {cluster: "$name", user: "$1"}}]
current-context: "$name"
YAML
}
make_certificates() {
  cd "$dir/pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=cluster-ca 2>/dev/null
  openssl genrsa -out sa.key 2048 2>/dev/null
  certificate apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$node_ip,IP:$api_ip"
  certificate admin /O=system:masters/CN=admin DNS:admin
  certificate controller-manager /CN=system:kube-controller-manager DNS:localhost
  certificate scheduler /CN=system:kube-scheduler DNS:localhost
  certificate proxy /CN=system:kube-proxy DNS:localhost
  certificate kubelet /O=system:nodes/CN=system:node:local "DNS:local,IP:127.0.0.1,IP:$node_ip"
  local user
  for user in admin controller-manager scheduler proxy kubelet; do kubeconfig "$user"; done
  cd "$dir"
}

start_containerd() {
  cat >cni/10-pods.conflist <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$dir/ipam", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE every pod would fail with "can't get final child's PID".
  cat >containerd.toml <<TOML
version = 2
root = "$dir/containerd"
state = "$dir/run/containerd"
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/base:1"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/containerd/opt"
TOML
  start containerd containerd -c containerd.toml
}

# The pause image, and the provisioner's helper image with a shell. Built once, kept in the cache.
base_image() {
  local tar=$cache/base-image-1.tar scratch
  if [ ! -f "$tar" ]; then
    scratch=$(mktemp -d "$cache/base.XXXXXX")
    mkdir -p "$scratch/rootfs/bin" "$scratch/rootfs/tmp"
    cp "$(command -v busybox)" "$scratch/rootfs/bin/"
    local applet
    for applet in sh mkdir rm sleep chmod chown; do ln -s busybox "$scratch/rootfs/bin/$applet"; done
    printf 'FROM scratch\nCOPY rootfs /\nCMD ["/bin/sleep", "2147483647"]\n' >"$scratch/Dockerfile"
    { buildah --storage-driver vfs --root "$scratch/store" --runroot "$scratch/run" bud --isolation chroot -t localhost/base:1 "$scratch" &&
      buildah --storage-driver vfs --root "$scratch/store" --runroot "$scratch/run" push localhost/base:1 "docker-archive:$scratch/base.tar:localhost/base:1"; } >"$dir/log/image.log" 2>&1 ||
      die "building the base image failed; see $dir/log/image.log"
    mv "$scratch/base.tar" "$tar"
    rm -rf "$scratch"
  fi
  echo "$tar"
}

import() { timeout 300 ctr -a "$socket" -n k8s.io images import "$1" >>"$dir/log/import.log" 2>&1 || die "importing $1 failed; see $dir/log/import.log"; }

start_control_plane() {
  # A throw-away cluster may lose its last writes to a power cut.
  start etcd "$bin/etcd" --data-dir etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --unsafe-no-fsync
  # All addresses of the namespace: pods reach it at the node's, behind the Service `kubernetes`.
  start apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --secure-port=6443 --bind-address=0.0.0.0 --advertise-address=$node_ip --service-cluster-ip-range=$services \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
    --service-account-key-file=pki/sa.key --service-account-signing-key-file=pki/sa.key --service-account-issuer=https://kubernetes.default.svc \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key --kubelet-certificate-authority=pki/ca.crt \
    --kubelet-preferred-address-types=InternalIP
  wait_for 90 'kube-apiserver ready' kubectl get --raw /readyz
  start controller-manager "$bin/kube-controller-manager" --kubeconfig=controller-manager.kubeconfig --root-ca-file=pki/ca.crt \
    --service-account-private-key-file=pki/sa.key --use-service-account-credentials --cluster-cidr=$pods --leader-elect=false --bind-address=127.0.0.1
  start scheduler "$bin/kube-scheduler" --kubeconfig=scheduler.kubeconfig --leader-elect=false --bind-address=127.0.0.1
}

# A cgroup root of its own: two kubelets under one root end each other's pods.
make_cgroup() {
  local hierarchy
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$cgroup"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [ ! -f "$hierarchy/tasks" ] || mkdir -p "$hierarchy/$cgroup"
    [ "$(basename "$hierarchy")" != cpuset ] || for f in cpuset.cpus cpuset.mems; do cat "$hierarchy/$f" >"$hierarchy/$cgroup/$f"; done
  done
}

start_node() {
  make_cgroup
  cat >kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
containerRuntimeEndpoint: unix://$socket
address: $node_ip
healthzBindAddress: 127.0.0.1
clusterDomain: cluster.local
clusterDNS: [$node_ip]
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $dir/pki/kubelet.crt
tlsPrivateKeyFile: $dir/pki/kubelet.key
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
volumePluginDir: $dir/kubelet/plugins-exec
podLogsDir: $dir/log/pods
YAML
  start kubelet "$bin/kubelet" --kubeconfig=kubelet.kubeconfig --config=kubelet.yaml --root-dir="$dir/kubelet" --hostname-override=local --node-ip=$node_ip
  start proxy "$bin/kube-proxy" --kubeconfig=proxy.kubeconfig --proxy-mode=nftables --cluster-cidr=$pods --hostname-override=local --bind-address=127.0.0.1
  printf '.:53 {\n bind %s\n errors\n kubernetes cluster.local in-addr.arpa {\n  kubeconfig %s/admin.kubeconfig\n }\n cache 5\n}\n' "$node_ip" "$dir" >Corefile
  start dns "$bin/coredns" -conf Corefile
}

# The same default class as kind's: `standard`, by local-path-provisioner.
start_provisioner() {
  printf '{"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": ["%s/volumes"]}]}' "$dir" >provisioner/config.json
  printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: helper-pod}\nspec: {containers: [{name: helper-pod, image: "localhost/base:1", imagePullPolicy: IfNotPresent}]}\n' >provisioner/helperPod.yaml
  # shellcheck disable=SC2016 # VOL_DIR is for the helper pod's shell
  printf '#!/bin/sh\nset -eu\n%s "$VOL_DIR"\n' 'mkdir -m 0777 -p' >provisioner/setup
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nset -eu\n%s "$VOL_DIR"\n' 'rm -rf' >provisioner/teardown
  kubectl create namespace local-path-storage
  kubectl -n local-path-storage create serviceaccount local-path-provisioner-service-account
  kubectl -n local-path-storage create configmap local-path-config --from-file=provisioner/
  kubectl apply -f - <<'YAML'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: rancher.io/local-path
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
YAML
  start provisioner "$bin/local-path-provisioner" start --config provisioner/config.json --kubeconfig admin.kubeconfig \
    --namespace local-path-storage --helper-image localhost/base:1 --configmap-name local-path-config
}

node_ready() { kubectl get node local --no-headers | grep -qw Ready; }
namespace_ready() { kubectl -n default get serviceaccount default; }

up() {
  [ "$(id -u)" = 0 ] || die "the local cluster needs root: run this with sudo"
  "$here/../../scripts/packages.sh" containerd=containerd runc=runc /usr/lib/cni/bridge=containernetworking-plugins \
    nft=nftables iptables=iptables conntrack=conntrack socat=socat buildah=buildah busybox=busybox-static openssl=openssl ip=iproute2 sysctl=procps
  bin=$("$here/tools.sh" | tail -n 1) cache=$(dirname "$bin")
  if is_running apiserver && is_running kubelet && node_ready; then
    say "cluster '$name' is up"
    return
  fi
  down
  say "starting cluster '$name' (Kubernetes $("$bin/kubectl" version --client -o json | sed -n 's/.*"gitVersion": "\(.*\)".*/\1/p'))…"
  local began=$SECONDS
  mkdir -p "$dir"/{pki,log,run,cni,volumes,provisioner,ipam}
  cd "$dir"
  make_network
  make_certificates
  start_containerd
  start_control_plane
  wait_for 30 'containerd ready' ctr -a "$socket" version
  import "$(base_image)"
  start_node
  wait_for 90 'node Ready' node_ready
  wait_for 60 'default service account' namespace_ready
  start_provisioner >>log/provisioner-setup.log
  say "cluster '$name' is ready after $((SECONDS - began)) s"
}

down() {
  local component id mount hierarchy
  for component in provisioner dns proxy kubelet scheduler controller-manager apiserver; do stop "$component"; done
  if is_running containerd; then
    for id in $(timeout 20 ctr -a "$socket" -n k8s.io tasks ls -q 2>/dev/null); do
      timeout 10 ctr -a "$socket" -n k8s.io tasks kill -s KILL "$id" 2>/dev/null || true
    done
    sleep 0.5
    for id in $(timeout 20 ctr -a "$socket" -n k8s.io tasks ls -q 2>/dev/null); do
      timeout 10 ctr -a "$socket" -n k8s.io tasks delete -f "$id" >/dev/null 2>&1 || true
    done
  fi
  stop containerd
  stop etcd
  # Shims outlive containerd when it did not manage to end them; they carry our socket in their arguments.
  local proc
  for proc in /proc/[0-9]*; do
    case $( (tr '\0' ' ' <"$proc/cmdline") 2>/dev/null) in *containerd-shim*"$socket"*) kill -KILL "${proc#/proc/}" 2>/dev/null || true ;; esac
  done
  # A lazy unmount never hangs; innermost first. Nothing is removed while something is still mounted inside.
  awk -v d="$dir/" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r | while read -r mount; do umount -l "$mount" || true; done
  if [ -e "/run/netns/$netns" ]; then ip netns delete "$netns"; fi
  for hierarchy in /sys/fs/cgroup/ /sys/fs/cgroup/*/; do
    [ ! -d "$hierarchy$cgroup" ] || find "$hierarchy$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  if awk -v d="$dir/" 'index($2, d) == 1 {found = 1} END {exit !found}' /proc/mounts; then
    die "something is still mounted under $dir; not removing it"
  fi
  rm -rf --one-file-system "$dir"
}

load() {
  local tar
  is_running containerd || die "cluster '$name' is not up: make cluster-up"
  for tar in "$@"; do import "$tar"; done
}

run() {
  is_running apiserver || die "cluster '$name' is not up: make cluster-up"
  bin=$("$here/tools.sh" | tail -n 1)
  export KUBECONFIG=$dir/admin.kubeconfig PATH=$bin:$PATH
  exec nsenter --net="/run/netns/$netns" "$@"
}

case $verb in
  up | down | load | run) "$verb" "$@" ;;
  *) die "local.sh: unknown verb '$verb': up, down, load or run" ;;
esac
