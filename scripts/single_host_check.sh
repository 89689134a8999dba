#!/usr/bin/env bash
# What a single host without Kubernetes gets: docker-compose.yml, the configurations that it mounts, and
# setup_persistent_storage.sh, as far as they can be checked without Docker.
#
#   single_host_check.sh SCHEMAS [PREDICTOR]   SCHEMAS: the program of scripts/schemas; PREDICTOR: default target/release/predictor
#   It needs promtool on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
schemas=${1:?single_host_check.sh SCHEMAS [PREDICTOR]} predictor=${2:-target/release/predictor}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { printf 'single_host_check.sh: %s\n' "$*" >&2; exit 1; }

"$schemas" compose docker-compose.yml
cp charts/stockpredictor/files/rules.yaml "$scratch/rules.yaml"
sed "s#/etc/prometheus/#$scratch/#" monitoring/prometheus/prometheus.yml >"$scratch/prometheus.yml"
promtool check config "$scratch/prometheus.yml" >"$scratch/said" 2>&1 || { cat "$scratch/said" >&2; fail 'promtool refuses the configuration'; }

# The script, on a host of its own: nothing there, then everything there.
host=$scratch/host
mkdir "$host"
cp setup_persistent_storage.sh "$host"
setup() { env PATH="$host/bin:/usr/bin:/bin" PREDICTOR="$1" "$host/setup_persistent_storage.sh" "${@:2}" >"$scratch/said" 2>&1; }
refused() { ! setup "$@" || fail "it should have refused: $*"; }
"$host/setup_persistent_storage.sh" --help | grep -q -- '--root DIR' || fail '--help does not tell the options'
refused "" --unknown
grep -q -- "unknown option '--unknown'" "$scratch/said" || fail 'an unknown option is not named'

[ -x "$predictor" ] || fail "$predictor is not built: make build"
predictor=$(realpath "$predictor")
if [ "$(id -u)" = 0 ]; then
  for _ in first second; do
    setup "$predictor" || { cat "$scratch/said" >&2; fail 'the script fails'; }
    find "$host/persistent_data" ! -uid 1001 | grep . && fail 'not everything belongs to 1001'
    [ "$(stat -c %a "$host/.env")" = 600 ] || fail "others can read Grafana's password"
    grep -c ^GRAFANA_PASSWORD= "$host/.env" | grep -qx 1 || fail 'there should be one password'
    sha256sum "$host/.env" "$host"/persistent_data/.stockpredictor/volume.json >>"$scratch/sums"
  done
  [ "$(sort -u "$scratch/sums" | wc -l)" = 2 ] || fail 'a second run changes the password or the volume'
  "$predictor" storage test --root "$host/persistent_data" >"$scratch/said" || [ $? -eq 3 ] || { cat "$scratch/said" >&2; fail 'storage test finds faults'; }
fi

# Without the program, by the image: a stand-in for docker notes what it is asked.
rm -rf "${host:?}"/{persistent_data,bin}
mkdir "$host/bin"
cat >"$host/bin/docker" <<DOCKER
#!/bin/sh
echo "\$*" >"$scratch/asked"
exec "$predictor" storage setup --root "$host/persistent_data" --samples >/dev/null
DOCKER
chmod +x "$host/bin/docker"
if [ "$(id -u)" = 0 ]; then
  setup "" --root "$host/persistent_data" || { cat "$scratch/said" >&2; fail 'the script fails with the image'; }
  grep -q -- "--volume $host/persistent_data:/app/persistent_data .*predictor:.* storage setup --samples" "$scratch/asked" ||
    fail "docker is asked for something else: $(cat "$scratch/asked")"
fi
echo 'the single host is as docker-compose.yml says'
