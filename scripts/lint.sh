#!/usr/bin/env bash
# Everything that is checked without running the programs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=${STOCKPREDICTOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stockpredictor}/bin
cargo_deny=0.20.2
step() { printf '==> %s\n' "$*"; }

step 'cargo fmt'
cargo fmt --all --check || { echo 'run: cargo fmt --all' >&2; exit 1; }
# A workspace of its own, whose code the tests include; only its lock file can fall behind unseen.
fuzz=storage/fuzz/Cargo.toml
cargo fmt --manifest-path "$fuzz" --check || { echo "run: cargo fmt --manifest-path $fuzz" >&2; exit 1; }
cargo metadata --locked --format-version 1 --manifest-path "$fuzz" >/dev/null ||
  { echo "run: cargo update --workspace --manifest-path $fuzz" >&2; exit 1; }

step 'clippy'
# The profile of the tests: the dependencies are compiled once for both.
cargo clippy --locked --release --workspace --all-targets -- -D warnings

step 'cargo-deny'
if [ ! -x "$tools/cargo-deny-$cargo_deny" ]; then
  echo "building cargo-deny $cargo_deny (cold: about 4 minutes on two cores; cached afterwards)…" >&2
  mkdir -p "$tools"
  scratch=$(mktemp -d "$tools/../build.XXXXXX")
  CARGO_TARGET_DIR=$scratch/target cargo install --quiet --locked --debug --root "$scratch" --version "$cargo_deny" cargo-deny
  mv "$scratch/bin/cargo-deny" "$tools/cargo-deny-$cargo_deny"
  rm -rf "$scratch"
fi
# The advisory database is a download of its own: checked where it can be reached.
"$tools/cargo-deny-$cargo_deny" --locked check bans licenses sources

step 'generated files'
python3 scripts/metrics_table.py --check
# The whole workspace, as everywhere: another choice of features would compile the dependencies again.
cargo test --locked --release --workspace --test generated drift

step 'shellcheck'
scripts/packages.sh shellcheck=shellcheck
git ls-files -z | xargs -0 awk 'FNR == 1 && /^#!.*(ba)?sh/ {print FILENAME}' | xargs shellcheck

step 'dashboards and the single host'
python3 scripts/dashboards.py --check
[ -z "$(gofmt -l scripts/schemas)" ] || { echo 'run: gofmt -w scripts/schemas' >&2; exit 1; }
(cd scripts/schemas && CGO_ENABLED=0 go build -mod=readonly -trimpath -o ../../target/schemas .)
target/schemas dashboards charts/stockpredictor/files/dashboards/*.json
PATH=$(e2e/cluster/tools.sh prometheus promtool | tail -n 1):$PATH
python3 scripts/dashboards_check.py --sample
scripts/single_host_check.sh target/schemas

step 'chart'
e2e/cluster/tools.sh helm cluster >/dev/null
scripts/chart_lint.sh

step 'alert rules'
scripts/rules_check.sh

step 'kind-config.yaml'
scripts/kind_lint.sh
