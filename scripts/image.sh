#!/usr/bin/env bash
# Both images from the binaries in target/release, without pulling a base image:
# by Docker where it runs, else by buildah. Leaves in target/images
#   operator.tar, predictor.tar   docker-archives, to be imported into a cluster
#   env                           OPERATOR_IMAGE and PREDICTOR_IMAGE, the names in them
# A tag is the version and a digest of the content, so that a cluster never takes
# an older image of the same version for this one. What did not change is not built again.
#
#   IMAGES: another folder than target/images; BINARIES, ONNXRUNTIME: see rootfs.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${IMAGES:-target/images}
mkdir -p "$out"
out=$(cd "$out" && pwd)
version=$(awk -F '"' '/^\[workspace.package\]/ {inside = 1} inside && /^version/ {print $2; exit}' Cargo.toml)
say() { printf '%s\n' "$*" >&2; }

# Two callers at once would write the same files.
exec 9>"$out/.lock"
flock -w 900 9 || { say "another build of the images has held $out/.lock for 15 minutes"; exit 1; }

if docker info >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1; then
  builder=docker
elif command -v buildah >/dev/null; then
  builder=buildah
else
  say 'Docker with buildx, or the package buildah, is needed to build images'
  exit 1
fi

scratch=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
# An empty folder as context: the final stages copy from the replaced build stage only.
mkdir -p "$scratch/context" "$scratch/empty"

build() { # TARGET NAME FILE
  local target=$1 name=$2 file=$3
  local arguments=(--target "$target" --build-arg "VERSION=$version" --build-context "build=$scratch/context" --file Dockerfile)
  if [ $builder = docker ]; then
    docker buildx build --quiet --provenance=false "${arguments[@]}" --tag "$name" --output "type=docker,dest=$file" "$scratch/empty"
    return
  fi
  local buildah=(buildah --storage-driver vfs --root "$scratch/store" --runroot "$scratch/run")
  "${buildah[@]}" bud --quiet --isolation chroot --layers=false "${arguments[@]}" --tag "$name" "$scratch/empty" &&
    "${buildah[@]}" push --quiet "$name" "docker-archive:$file:$name"
}

: >"$scratch/env"
for target in operator predictor; do
  rootfs=$scratch/context/rootfs/$target
  scripts/rootfs.sh "$target" "$rootfs"
  digest=$({ cat Dockerfile; tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory "$rootfs" .; } | sha256sum)
  name=localhost/stockpredictor/$target:$version-${digest:0:12}
  variable=${target^^}_IMAGE
  if [ -f "$out/$target.tar" ] && grep -qsxF "$variable=$name" "$out/env"; then
    state=unchanged
  else
    state=built
    timeout 600 bash -c "$(declare -f build); $(declare -p scratch builder version); build $target $name $scratch/$target.tar" >"$scratch/log" 2>&1 ||
      { cat "$scratch/log" >&2; say "building the image of the $target by $builder failed"; exit 1; }
    mv "$scratch/$target.tar" "$out/$target.tar"
  fi
  echo "$variable=$name" >>"$scratch/env"
  printf '%-10s %s MB  %s  %s\n' "$target" "$(du -m "$out/$target.tar" | cut -f1)" "$state" "$name"
done
mv "$scratch/env" "$out/env"
