#!/usr/bin/env bash
# Regenerates what is generated: crds/, the chart's copy of them, the API reference, the chart's table of values, the
# tables of metrics, the dashboards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --locked --release --workspace --example generate
"${CARGO_TARGET_DIR:-target}/release/examples/generate"
python3 scripts/chart_values.py
python3 scripts/metrics_table.py
python3 scripts/dashboards.py
