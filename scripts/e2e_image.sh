#!/usr/bin/env bash
# The image that the cluster's tests use for what no image of ours has: a shell to look at, spoil and destroy files on a
# volume, and an S3 server. Leaves target/images/toolbox.tar, and its name as the last line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=target/images
mkdir -p "$out"
scripts/packages.sh buildah=buildah busybox=busybox-static
tools=$(e2e/cluster/tools.sh versitygw | tail -n 1)

scratch=$(mktemp -d "$out/toolbox.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/rootfs/bin" "$scratch/rootfs/tmp"
cp "$(command -v busybox)" "$scratch/rootfs/bin/busybox"
cp --dereference "$tools/versitygw" "$scratch/rootfs/bin/"
for applet in $(busybox --list); do
  [ "$applet" = busybox ] || ln -s busybox "$scratch/rootfs/bin/$applet"
done
printf 'FROM scratch\nCOPY rootfs /\nENV PATH=/bin\nUSER 1001:1001\nCMD ["/bin/sleep", "2147483647"]\n' >"$scratch/Dockerfile"
digest=$({ cat "$scratch/Dockerfile"; tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory "$scratch/rootfs" .; } | sha256sum)
name=localhost/stockpredictor/toolbox:${digest:0:12}
if ! [ -f "$out/toolbox.tar" ] || ! grep -qsxF "$name" "$out/toolbox.name"; then
  buildah=(buildah --storage-driver vfs --root "$scratch/store" --runroot "$scratch/run")
  { timeout 300 "${buildah[@]}" bud --quiet --isolation chroot --layers=false --tag "$name" "$scratch" &&
    timeout 300 "${buildah[@]}" push --quiet "$name" "docker-archive:$scratch/toolbox.tar:$name"; } >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" >&2; echo "building the image of the toolbox failed" >&2; exit 1; }
  mv "$scratch/toolbox.tar" "$out/toolbox.tar"
  echo "$name" >"$out/toolbox.name"
fi
echo "$name"
