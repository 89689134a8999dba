#!/usr/bin/env bash
# Puts the ONNX Runtime library into target/onnxruntime/, where the binaries of
# target/ look for it. The wheel is downloaded once into the user's cache and
# refused by pip unless its hash is the one in onnxruntime.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' scripts/onnxruntime.txt)
machine=$(uname -m)
cache=${STOCKPREDICTOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stockpredictor}/onnxruntime-$version-$machine
target=target/onnxruntime/libonnxruntime.so

command -v python3 >/dev/null || { echo "python3 with pip is needed to fetch the ONNX Runtime wheel" >&2; exit 1; }
if [ ! -f "$cache/libonnxruntime.so" ]; then
  echo "fetching ONNX Runtime $version ($machine, about 20 MB)…" >&2
  mkdir -p "$cache"
  scratch=$(mktemp -d "$cache/download.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp --abi cp311 --platform "manylinux_2_28_$machine" \
    --dest "$scratch" --requirement scripts/onnxruntime.txt
  python3 - "$scratch" "$cache" <<'PYTHON'
import pathlib, sys, zipfile
scratch, cache = map(pathlib.Path, sys.argv[1:])
(wheel,) = scratch.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (library,) = [n for n in archive.namelist() if n.startswith("onnxruntime/capi/libonnxruntime.so.")]
    for name, source in (("LICENSE", "onnxruntime/LICENSE"), ("ThirdPartyNotices.txt", "onnxruntime/ThirdPartyNotices.txt"), ("libonnxruntime.so", library)):
        partial = scratch / name
        partial.write_bytes(archive.read(source))
        partial.chmod(0o755 if name.endswith(".so") else 0o644)
        partial.replace(cache / name)
PYTHON
fi
if ! cmp -s "$cache/libonnxruntime.so" "$target"; then
  mkdir -p "$(dirname "$target")"
  install -m 755 "$cache/libonnxruntime.so" "$target.partial"
  mv "$target.partial" "$target"
  install -m 644 "$cache/LICENSE" "$cache/ThirdPartyNotices.txt" "$(dirname "$target")/"
fi
