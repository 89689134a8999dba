#!/usr/bin/env bash
# Collects what an image holds: the binary, the libraries that it needs, certificates,
# a user, licences. Used by the Dockerfile's build stage and on the host.
#
#   rootfs.sh operator|predictor DIR    fills DIR/system (root's) and DIR/app (the user's)
#   BINARIES: where the binaries are (default target/release)
#   ONNXRUNTIME: where the library and its licences are (default target/onnxruntime)
set -euo pipefail
target=${1:?rootfs.sh operator|predictor DIR} directory=${2:?rootfs.sh operator|predictor DIR}
root=$directory/system app=$directory/app
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binaries=${BINARIES:-$source/target/release}
onnxruntime=${ONNXRUNTIME:-$source/target/onnxruntime}
certificates=/etc/ssl/certs/ca-certificates.crt
fail() { printf 'rootfs.sh: %s\n' "$*" >&2; exit 1; }

case $target in operator | predictor) ;; *) fail "unknown target '$target': operator or predictor" ;; esac
[ -x "$binaries/$target" ] || fail "$binaries/$target is missing: run 'make build'"
[ -f $certificates ] || fail "$certificates is missing: install the package ca-certificates"

umask 022
rm -rf "$root" "$app"
mkdir -p "$app" "$root"/{usr/bin,usr/lib,etc/ssl/certs,usr/share/doc/stockpredictor}
install -m 755 "$binaries/$target" "$root/usr/bin/$target"
install -m 644 "$certificates" "$root$certificates"
install -m 644 "$source/LICENSE" "$root/usr/share/doc/stockpredictor/LICENSE"
echo 'stockpredictor:x:1001:1001::/app:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'stockpredictor:x:1001:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
install -d -m 1777 "$root/tmp"

loaded=("$root/usr/bin/$target")
if [ "$target" = predictor ]; then
  [ -f "$onnxruntime/libonnxruntime.so" ] || fail "$onnxruntime/libonnxruntime.so is missing: run 'make onnxruntime'"
  install -m 755 "$onnxruntime/libonnxruntime.so" "$root/usr/lib/libonnxruntime.so"
  mkdir -p "$root/usr/share/doc/onnxruntime"
  install -m 644 "$onnxruntime"/{LICENSE,ThirdPartyNotices.txt} "$root/usr/share/doc/onnxruntime/"
  loaded+=("$root/usr/lib/libonnxruntime.so")
  # The paths of containers that know only parts of the volume lead into its tree.
  mkdir -p "$app/persistent_data"
  ln -s persistent_data/ml_models "$app/models"
  ln -s persistent_data/logs "$app/logs"
  ln -s persistent_data/config "$app/config"
fi

# Each library that the loader finds here, at the path under which it looks for it. A static binary has none.
for file in "${loaded[@]}"; do
  listing=$(ldd "$file" 2>&1) || [[ $listing == *'not a dynamic executable'* || $listing == *'statically linked'* ]] ||
    fail "ldd $file: $listing"
  ! grep 'not found' <<<"$listing" >&2 || fail "$file needs a library that this machine does not have"
  # Shapes: `name => /path (address)`, `/path (address)` for the loader, and the kernel's own, without a path.
  awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\// {print $1}' <<<"$listing"
done | sort -u | while read -r library; do
  [ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
  # Its licence comes along, where the distribution says which package it is from.
  package=$( (dpkg -S "$library" || dpkg -S "$(realpath "$library")") 2>/dev/null | head -n 1 | cut -d: -f1) || true
  [ -z "$package" ] || [ ! -f "/usr/share/doc/$package/copyright" ] ||
    install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
done
