set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
if [ -n "${PREDICTOR:-}" ]; then
  predictor=$PREDICTOR
elif [ -f "$root/predictor" ] && [ -x "$root/predictor" ]; then
  predictor=$root/predictor
elif command -v predictor >/dev/null 2>&1; then
  predictor=predictor
else
  echo "The program predictor is needed and was not found. Put it beside this script or into PATH, or name it:" >&2
  echo "  PREDICTOR=/path/to/predictor $0" >&2
  echo "It is in the service's container image (/usr/bin/predictor) and is built by 'make build'." >&2
  exit 1
fi
