#!/usr/bin/env bash
# Whether kind understands kind-config.yaml. kind decodes the file before it looks for
# Docker, and refuses fields that it does not know; without a PATH it finds no Docker, so
# nothing is created.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kind=$(e2e/cluster/tools.sh kind | tail -n 1)/kind
answer=$(timeout 30 env -i PATH=/nonexistent "$kind" create cluster --name lint --config kind-config.yaml 2>&1) || true
case $answer in
  *'decode config'* | *'invalid configuration'*) printf 'kind-config.yaml: %s\n' "$answer" >&2; exit 1 ;;
  *docker* | *podman* | *provider*) ;;
  *) printf 'kind said something unexpected about kind-config.yaml: %s\n' "$answer" >&2; exit 1 ;;
esac
