#!/usr/bin/env bash
# Prepares ./persistent_data for docker-compose.yml: the tree with the default model, its owners and modes, and a password
# for Grafana. Run it as often as you like: what is there stays.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() {
  cat <<'TEXT'
setup_persistent_storage.sh [--root DIR] [--no-samples]

  --root DIR      the volume (default: persistent_data beside this script, as docker-compose.yml has it)
  --no-samples    leave out the sample prices on a new volume; put your own below stock_data/historical/

It runs `predictor storage setup`: the program of target/release (`make build`) or of the PATH as root, else the image by
docker or podman (PREDICTOR_IMAGE, default ghcr.io/stockpredictor/predictor:0.1.0). Then: docker-compose up -d
TEXT
}
fail() { printf 'setup_persistent_storage.sh: %s\n' "$*" >&2; exit 1; }

root=$here/persistent_data samples=(--samples)
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=${2:?--root needs a folder}; shift 2 ;;
    --no-samples) samples=(); shift ;;
    -h | --help) usage; exit ;;
    *) usage >&2; fail "unknown option '$1'" ;;
  esac
done

program=${PREDICTOR:-}
[ -n "$program" ] || for candidate in "$here/target/release/predictor" "$(command -v predictor || true)"; do
  if [ -x "$candidate" ]; then program=$candidate; break; fi
done
engine=$(command -v docker || command -v podman || true)
mkdir -p "$root"
root=$(cd "$root" && pwd)

# Files must belong to 1001, as which all containers run. Only root can give them away.
if [ -n "$program" ] && { [ "$(id -u)" = 0 ] || [ -z "$engine" ]; }; then
  "$program" storage setup --root "$root" "${samples[@]}"
elif [ -n "$engine" ]; then
  # Root in the container, without a network: it may change owners, and nothing else needs it.
  "$engine" run --rm --user 0:0 --network none --volume "$root:/app/persistent_data" \
    "${PREDICTOR_IMAGE:-ghcr.io/stockpredictor/predictor:0.1.0}" storage setup "${samples[@]}"
else
  fail 'there is neither the program predictor nor docker or podman: run make build, or install docker'
fi
# Restores make their folder beside the others.
if [ "$(id -u)" = 0 ]; then chown 1001:1001 "$root"; fi
for folder in "$root" "$root"/monitoring/{prometheus,grafana}; do
  [ "$(stat -c %u "$folder")" = 1001 ] ||
    fail "$folder does not belong to 1001, as which the containers run: sudo chown -R 1001:1001 '$root'"
done

if ! grep -qs '^GRAFANA_PASSWORD=' "$here/.env"; then
  # A new file is for its owner's eyes only; one that exists keeps its mode and its lines.
  (umask 077 && printf 'GRAFANA_PASSWORD=%s\n' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >>"$here/.env")
  echo "Grafana's user admin has a new password: it is in .env"
fi
cat <<'TEXT'
Ready. Next:
  docker-compose up -d
  curl http://localhost:8080/api/v1/predict/NVDA
  http://localhost:3000 has the dashboards, http://localhost:9090/alerts the alerts
TEXT
