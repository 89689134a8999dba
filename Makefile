# Every habit of this repository is a target; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ROOT ?= ./persistent_data
SYMBOLS ?= NVDA,TSLA,AAPL
LISTEN ?= 127.0.0.1:8080
cluster := e2e/cluster/cluster.sh

.PHONY: help
help: ## List every target
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The two commands
.PHONY: demo
demo: ## From nothing to real predictions: cluster, chart, example, three predictions
	@scripts/demo.sh up

.PHONY: test
test: export BUILD_TARGETS := --all-targets
test: lint test-unit test-recipes test-year test-faults test-apiserver test-s3 test-model test-e2e ## All tests, the cluster's too
	@echo 'all tests passed'

##@ Run
.PHONY: demo-metrics
demo-metrics: ## The main figures that the demo's predictor and operator export
	@scripts/demo.sh metrics

.PHONY: demo-down
demo-down: ## End the demo's cluster and remove its state
	@scripts/demo.sh down

.PHONY: serve
serve: build ## The predictor alone on ROOT (default ./persistent_data), no cluster
	@target/release/predictor storage setup --root $(ROOT) --samples
	@target/release/predictor serve --root $(ROOT) --symbols $(SYMBOLS) --listen $(LISTEN)

.PHONY: storage-setup
storage-setup: build ## Create the volume's tree, default model and samples under ROOT
	@target/release/predictor storage setup --root $(ROOT) --samples

.PHONY: storage-test
storage-test: build ## Check directories, permissions, writing, locks, room and mount of ROOT
	@target/release/predictor storage test --root $(ROOT) || [ $$? -eq 3 ] # warnings are in the report

.PHONY: storage-backup
storage-backup: build ## Back up ROOT into its backups/
	@target/release/predictor storage backup --root $(ROOT)

.PHONY: storage-monitor
storage-monitor: build ## Report what lies on ROOT, how it grows, and its health
	@target/release/predictor storage monitor --root $(ROOT) || [ $$? -eq 3 ] # warnings are in the report

.PHONY: storage-cleanup
storage-cleanup: build ## Remove old cache files, logs and predictions from ROOT
	@target/release/predictor storage cleanup --root $(ROOT) || [ $$? -eq 3 ] # warnings are in the report

.PHONY: storage-restore
storage-restore: build ## Restore ROOT from BACKUP=file; without BACKUP list the backups
	@target/release/predictor storage $(if $(BACKUP),restore $(BACKUP),list) --root $(ROOT)

.PHONY: cluster-up
cluster-up: ## A cluster without anything of ours (CLUSTER=local|kind|existing)
	@$(cluster) up demo

.PHONY: cluster-down
cluster-down: ## End that cluster
	@$(cluster) down demo

##@ Build
.PHONY: build
build: packages onnxruntime ## Both binaries, optimised, into target/release
	@# The whole workspace everywhere: one choice of features, so that dependencies are compiled once.
	@cargo build --locked --release --workspace $(BUILD_TARGETS)

.PHONY: images
images: build ## Both container images into target/images, with their sizes
	@scripts/packages.sh buildah=buildah
	@scripts/image.sh

.PHONY: onnxruntime
onnxruntime: ## The ONNX Runtime library, pinned by version and hash, where the binaries find it
	@scripts/onnxruntime.sh

.PHONY: packages
packages:
	@scripts/packages.sh cc=gcc /usr/include/stdio.h=libc6-dev python3=python3 pip3=python3-pip
	@command -v cargo >/dev/null || { echo 'Rust is needed: install it by rustup (rust-toolchain.toml names the version)' >&2; exit 1; }

.PHONY: crds
crds: ## Regenerate crds/ and the API reference from api/, the tables of metrics and chart values, and the dashboards
	@scripts/generate.sh

.PHONY: dashboards
dashboards: ## Pictures of the dashboards into docs/pictures, from PROMETHEUS=URL (default: made-up series)
	@scripts/packages.sh chromium=chromium /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf=fonts-dejavu-core
	@PATH=$$(e2e/cluster/tools.sh prometheus promtool | tail -n 1):$$PATH \
	  python3 scripts/dashboard_pictures.py $(or $(PROMETHEUS),--sample) docs/pictures $(VARIABLES)

.PHONY: train
train: build ## Train the default model anew on examples/data (OUT=folder)
	@target/release/predictor train --data examples/data --symbols NVDA,TSLA,AAPL --out $(or $(OUT),target/model/nvda_lstm_model)

##@ Check
.PHONY: lint
lint: build ## fmt, clippy, cargo-deny, generated files unchanged, chart, rules, dashboards, shellcheck
	@scripts/lint.sh

.PHONY: rules-check
rules-check: ## The alert rules: promtool's tests of each, their metrics, labels and runbooks
	@scripts/rules_check.sh

.PHONY: test-unit
test-unit: build ## Unit tests and tests of the binaries on a temp directory
	@scripts/packages.sh bsdtar=libarchive-tools promtool=prometheus strace=strace
	@cargo test --locked --release --workspace

.PHONY: test-apiserver
test-apiserver: build ## Tests against a real kube-apiserver
	@STOCKPREDICTOR_TOOLS=$$(e2e/cluster/tools.sh cluster | tail -n 1) \
	  cargo test --locked --release --workspace --test apiserver --test backups --test disturbances --test process --test restores --test scheduling \
	    -- --ignored --test-threads=8 # they wait most of the time

.PHONY: test-recipes
test-recipes: build ## The recipes of docs/archive-format.md and the guide's make targets, on real archives
	@scripts/recipe_check.sh target/release/predictor
	@scripts/guide_check.sh

.PHONY: test-year
test-year: build ## A year of the example's schedules, with the operator's planner and the predictor's binary
	@scripts/packages.sh faketime=faketime
	@cargo test --locked --release --workspace --test year -- --ignored

.PHONY: test-faults
test-faults: build ## Kills and errors at every system call that changes a volume, and file systems that are too small (as root)
	@scripts/packages.sh strace=strace
	@python3 scripts/storage_faults.py target/release/predictor --sizes 8

.PHONY: test-s3
test-s3: build ## Object stores against a real S3 server
	@scripts/packages.sh openssl=openssl
	@STOCKPREDICTOR_TOOLS=$$(e2e/cluster/tools.sh versitygw | tail -n 1) \
	  cargo test --locked --release --workspace --test object_store --test jobs -- --ignored

.PHONY: test-model
test-model: build ## The service's numbers against Python's onnxruntime on the same files
	@scripts/independent_check.sh target/release/predictor

.PHONY: test-e2e
test-e2e: images ## Tests on a real cluster (CLUSTER=local|kind|existing)
	@scripts/e2e.sh

.PHONY: fuzz
fuzz: packages ## Fuzzers for archives and manifests (FUZZ_SECONDS=60 for each of three)
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),60)

.PHONY: bench
bench: build ## The storage engine against tar, pigz and restic, side by side (minutes; RUNS=5)
	@scripts/packages.sh pigz=pigz restic=restic
	@python3 scripts/bench.py target/release/predictor target/bench --runs $(or $(RUNS),5) --million --four

.PHONY: test-long
test-long: build fuzz ## What takes longer: fuzzers, the model trained anew, 10,000 lives of retention, 2,000 of a volume, kills at random, tmpfs of 50 sizes
	@scripts/packages.sh strace=strace
	@cargo test --locked --release --workspace --test retention_model --test engine_model -- --ignored
	@python3 scripts/retrain_check.py target/release/predictor
	@python3 scripts/storage_faults.py target/release/predictor --random 500
	@python3 scripts/storage_faults.py target/release/predictor --command cleanup --kinds kill --sizes 50

.PHONY: clean
clean: ## Remove build outputs (clusters: demo-down; the user's caches stay)
	@rm -rf target
