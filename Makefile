# The ways into this project; see README.md. `make help` lists them.

# Cargo's target directory is shared by all checkouts of a user, so that RocksDB is built once a machine. ccache and
# clang make that one build cheaper; see docs/src/quick-start/developer.md.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/cvmfs-prefetch/target
export CC = ccache clang
export CXX = ccache clang++

CARGO = cargo
DEMO = $(CARGO_TARGET_DIR)/debug/demo
BENCH = $(CARGO_TARGET_DIR)/release
# Tests that need root, and the file in which tests say that this machine cannot run them; see tests/README.md.
TIERS = infrastructure recording plugin service e2e
NOT_RUN = $(CARGO_TARGET_DIR)/tests-not-run

.PHONY: help setup build man lint test containerd-suite demo bench-build bench-tracer bench-bundles bench-prefetch bench-snapshotter bench-pod bench clean-caches

help:
	@echo "make demo    set up a site on this machine and show a cold, a prefetched and a warm start (root)"
	@echo "make test    format, lints, all tests (root)"
	@echo "make containerd-suite  containerd's own Go tests of snapshotters against ours (root, Go)"
	@echo "make bench   the paper's evaluation, repeated and extended; hours, goes on where it was; QUICK=1: minutes (root)"
	@echo "make bench-tracer  what the recorder costs, as ratios of one run (root)"
	@echo "make bench-bundles  how good, small and quick bundles are (root)"
	@echo "make bench-prefetch  how quick the daemon is; QUICK=1 for a short run, OPTIONS=--full for all (root)"
	@echo "make bench-snapshotter  the plugin's calls against containerd's overlayfs; QUICK=1 for a short run (root)"
	@echo "make bench-pod  pods through CRI, by legacy pull and by CVMFS; QUICK=1 for a short run (root)"
	@echo "make build   all programs, in $(CARGO_TARGET_DIR)/debug"
	@echo "make man     man pages and shell completions, in $(CARGO_TARGET_DIR)/generated (part of make build)"
	@echo "make setup   install what building and testing need"

setup:
	scripts/setup

build: setup
	$(CARGO) build --workspace --all-targets --locked
	$(CARGO) run --quiet -p cli --example generate --locked -- $(CARGO_TARGET_DIR)/generated

man: setup
	$(CARGO) run --quiet -p cli --example generate --locked -- $(CARGO_TARGET_DIR)/generated

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings

# The privileged tests (tests/README.md) run the built programs, which `cargo test` alone would not build.
test: lint
	$(CARGO) build --workspace --all-targets --locked
	@rm -f $(NOT_RUN)
	$(CARGO) test --workspace --locked
	$(CARGO) test --workspace --locked -- --ignored as_root
	TESTBED_NOT_RUN=$(NOT_RUN) $(CARGO) test --workspace --locked $(TIERS:%=--test %)
	@test ! -e $(NOT_RUN) || sort -u $(NOT_RUN)

containerd-suite: setup
	$(CARGO) build --workspace --all-targets --locked
	scripts/containerd-suite

# Only the programs that the demo runs, but with the features of the whole workspace, so that `make test` builds nothing again.
DEMO_BINS = cvmfs-prefetch cvmfs-prefetchd cvmfs-prefetch-snapshotter testbed-client demo

demo: setup
	@test -e $(DEMO) || echo "The first build takes about 20 minutes on two cores, most of it RocksDB. Later builds take seconds."
	$(CARGO) build --workspace $(addprefix --bin ,$(DEMO_BINS)) --locked
	$(DEMO)

# Benchmarks measure what is installed: the release build.
bench-build: setup
	$(CARGO) build --release --workspace --bins --examples --locked

bench: bench-build
	$(BENCH)/bench $(if $(QUICK),--quick) $(OPTIONS)

bench-tracer: bench-build
	$(BENCH)/examples/bench-tracer

bench-bundles: bench-build
	$(BENCH)/bench-bundles

bench-prefetch: bench-build
	$(BENCH)/bench-prefetch $(if $(QUICK),--quick) $(OPTIONS)

bench-snapshotter: bench-build
	$(BENCH)/bench-snapshotter $(if $(QUICK),--quick) $(OPTIONS)

bench-pod: bench-build
	$(BENCH)/bench-pod $(if $(QUICK),--quick) $(OPTIONS)

clean-caches:
	rm -rf $(HOME)/.cache/cvmfs-prefetch
