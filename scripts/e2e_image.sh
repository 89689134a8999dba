#!/usr/bin/env bash
# The images that the cluster's tests use for what no image of ours has.
#
#   e2e_image.sh [toolbox]     a shell to look at, spoil and destroy files on a volume, and an S3 server
#   e2e_image.sh prometheus    Prometheus, in the place of the image that the chart names
#
# Leaves target/images/NAME.tar, and the image's name as the last line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=target/images
image=${1:-toolbox}
mkdir -p "$out"
scripts/packages.sh buildah=buildah busybox=busybox-static

scratch=$(mktemp -d "$out/$image.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/rootfs/bin" "$scratch/rootfs/tmp"
case $image in
  toolbox)
    tools=$(e2e/cluster/tools.sh versitygw | tail -n 1)
    cp "$(command -v busybox)" "$scratch/rootfs/bin/busybox"
    cp --dereference "$tools/versitygw" "$scratch/rootfs/bin/"
    for applet in $(busybox --list); do
      [ "$applet" = busybox ] || ln -s busybox "$scratch/rootfs/bin/$applet"
    done
    command='CMD ["/bin/sleep", "2147483647"]'
    ;;
  prometheus)
    tools=$(e2e/cluster/tools.sh prometheus | tail -n 1)
    cp --dereference "$tools/prometheus" "$scratch/rootfs/bin/"
    command='ENTRYPOINT ["/bin/prometheus"]'
    ;;
  *) echo "e2e_image.sh: unknown image '$image': toolbox or prometheus" >&2; exit 2 ;;
esac
printf 'FROM scratch\nCOPY rootfs /\nENV PATH=/bin\nUSER 1001:1001\n%s\n' "$command" >"$scratch/Dockerfile"
digest=$({ cat "$scratch/Dockerfile"; tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory "$scratch/rootfs" .; } | sha256sum)
name=localhost/stockpredictor/$image:${digest:0:12}
if ! [ -f "$out/$image.tar" ] || ! grep -qsxF "$name" "$out/$image.name"; then
  buildah=(buildah --storage-driver vfs --root "$scratch/store" --runroot "$scratch/run")
  { timeout 300 "${buildah[@]}" bud --quiet --isolation chroot --layers=false --tag "$name" "$scratch" &&
    timeout 300 "${buildah[@]}" push --quiet "$name" "docker-archive:$scratch/$image.tar:$name"; } >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" >&2; echo "building the image of $image failed" >&2; exit 1; }
  mv "$scratch/$image.tar" "$out/$image.tar"
  echo "$name" >"$out/$image.name"
fi
echo "$name"
