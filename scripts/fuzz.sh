#!/usr/bin/env bash
# Runs each fuzz target of storage/fuzz for a bounded time and fails on a crash.
#
#   fuzz.sh [SECONDS]   for each target; 60 if it isn't said
#
# It works with the stable compiler: no sanitizer is needed to see a panic. What is found on the way is kept under
# target/fuzz/, so that the next run goes on from there; an input that crashes is in target/fuzz/artifacts/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
time=${1:-60}
cargo_fuzz=0.13.1
[[ $time =~ ^[1-9][0-9]*$ ]] || { echo "'$time' is no number of seconds above 0" >&2; exit 1; }

scripts/packages.sh c++=g++
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "installing cargo-fuzz $cargo_fuzz (about a minute on two cores; it stays installed)…" >&2
  cargo install --quiet --locked --version "$cargo_fuzz" cargo-fuzz
fi

# Unpacking ends in syncfs, which waits for everything that anybody writes to the same disk: memory has no such wait.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then
  TMPDIR=$(mktemp -d -p /dev/shm fuzz.XXXXXX)
else
  TMPDIR=$(mktemp -d)
fi
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

export CARGO_TARGET_DIR=$root/target/fuzz
cd storage
# cargo-fuzz has no --locked of its own.
cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml || {
  echo 'storage/fuzz/Cargo.lock is out of date: run cargo update --workspace --manifest-path storage/fuzz/Cargo.toml' >&2
  exit 1
}
echo 'building the fuzz targets (cold: about 3 minutes on two cores)…' >&2
cargo fuzz build --sanitizer none
failed=()
for target in manifest extract members; do
  found=$root/target/fuzz/corpus/$target artifacts=$root/target/fuzz/artifacts/$target
  mkdir -p "$found" "$artifacts"
  echo "==> $target, $time s"
  # Memory of an archive that is unpacked is bounded by some tens of MiB; the rest is the fuzzer's own.
  cargo fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
    "-max_total_time=$time" "-artifact_prefix=$artifacts/" -rss_limit_mb=768 -timeout=20 -max_len=4096 \
    -len_control=20 -print_final_stats=1 || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "found something: ${failed[*]}. The input is in target/fuzz/artifacts/; with its repair it is kept as" >&2
  echo "storage/fuzz/corpus/TARGET/WHAT_IT_IS.seed, where make test-unit runs it" >&2
  exit 1
fi
