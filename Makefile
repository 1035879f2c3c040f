# `make run` starts the box with simulated hardware, `make test` runs every test. Both install what is missing first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# rustup puts cargo there, and a shell older than its installation does not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Extra arguments: `make run ARGS="--config my.toml"`, `make test T=name`, `make bench T=name`, `make bench-latency S=seconds` (`bench-oracle`, `-network`, `-cost`, `-ipfs`, `-follow` and `fuzz` likewise).
ARGS ?=
T ?=
S ?=

SAY := . tests/setup/lib.sh && say
# Said where nothing is built yet, lest it looks stuck.
SLOW := $(if $(wildcard $(or $(CARGO_TARGET_DIR),target)/debug/podium),,; the first time takes some minutes, most of it the IPFS node)

.PHONY: help run test test-rig test-aarch64 deps deps-test deps-rig web build build-test check fmt clippy docs deny bench bench-sync bench-latency bench-oracle bench-network bench-store bench-cost bench-ipfs bench-follow bench-rig fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: ## build the box and start it with simulated hardware (data in .podium; ARGS="…" for podium run)
	@STEP=1/4 $(MAKE) deps
	@STEP=2/4 $(MAKE) web
	@STEP=3/4 $(MAKE) build
	@STEP=4/4 && $(SAY) "starting the box; Ctrl-C stops it"
	@cargo run -q --bin podium -- run --data-dir .podium $(ARGS)

test: ## every test; T=name only the Rust tests with that name
	@STEP=1/5 $(MAKE) deps
	@STEP=2/5 $(MAKE) deps-test
	@STEP=3/5 $(MAKE) web
	@STEP=4/5 $(MAKE) build-test
	@STEP=5/5 T='$(T)' tests/setup/test

test-rig: ## the box on the kernel's own drivers, with hardware that tests plug and break (tests/rig/README.md); T=name only that one
	@STEP=1/5 $(MAKE) deps
	@STEP=2/5 $(MAKE) deps-rig
	@STEP=3/5 $(MAKE) web
	@STEP=4/5 $(MAKE) build-test
	@STEP=5/5 && $(SAY) "the rig's kernel; the first time takes five minutes or more"
	@tests/rig/kernel/build >/dev/null
	@STEP=5/5 T='$(T)' tests/setup/rig

test-aarch64: ## the board's tests for a Raspberry Pi, linked and run on an emulated processor
	@STEP=1/2 tests/setup/deps aarch64
	@STEP=2/2 tests/setup/aarch64

deps: ## install what building and running needs
	@tests/setup/deps run

deps-test: ## install what the tests need on top
	@tests/setup/deps test

deps-rig: ## install what the rig's kernel is built with
	@tests/setup/deps rig

web: ## build the web pages
	@tests/setup/web

# Not `-p podium`: cargo cannot resolve the patched transports (node/host/libp2p-quic, -yamux) beside upstream's for one package alone.
build: ## build the box
	@$(SAY) "building podium$(SLOW)"
	@cargo build --bin podium

# Bins and tests in one go, with one set of features: after `cargo build --bin podium`, `cargo test --workspace` would compile
# tokio with the tests' features, and with it the whole IPFS node, a second time.
build-test:
	@$(SAY) "building podium and its tests$(SLOW)"
	@cargo build --workspace --bins --tests --examples

check: fmt clippy docs deny ## format, lints, documentation, licences and sources

fmt: ## is everything formatted?
	cargo fmt --all --check

clippy: ## lints, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

docs: ## documentation, warnings are errors
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

deny: ## licences, bans and sources of every crate
	@tests/setup/deny

bench: build ## benchmarks, each against a named rival in the same run (of the debug build: it is what the tests judge)
	@cargo bench -q -p tests --profile dev --bench start $(T)

bench-sync: ## flash and beep through the real pipelines for eleven minutes: the table of their offsets
	@cargo run -q -p media --example bench-sync

bench-latency: build ## glass to player in Chromium, ten minutes for the box and two for each rival (S=60: a minute each)
	@cargo run -q -p tests --example bench-latency -- $(S)

bench-oracle: build ## the oracle against this box, ffmpeg + nginx and multimux, side by side: ten minutes, or S=seconds
	@tests/setup/multimux
	@cargo bench -q -p tests --profile dev --bench oracle -- $(S)

bench-network: build ## how far followers are behind over links of 50 ms and 2 % loss (needs root): two minutes each, or S=seconds
	@cargo bench -q -p tests --profile dev --bench network -- $(S)

bench-rig: build-test ## on the rig, with nothing else on the machine: sync with clocks that run apart, slate and return of a card, a talk (T=name)
	@tests/rig/kernel/build >/dev/null
	@cargo test --workspace --test timing --test talk -- --test-threads=1 --nocapture $(T)

# With one set of features, as for the tests, and optimised: what something costs is not seen in a debug build.
MEASURED := cargo build --profile measure --workspace --bins --examples
MEASURE := cargo bench -q --workspace --profile measure --bench

bench-cost: ## processor time and memory of all but the encoder, stage by stage, in the optimised build: eleven minutes, or S=seconds for each number
	@$(SAY) "building podium, optimised; the first time takes a quarter of an hour"
	@$(MEASURED)
	@$(MEASURE) cost -- $(S)

bench-ipfs: ## this box against ffmpeg, a script and Kubo with the same input at the same time: two minutes, or S=seconds
	@$(SAY) "building podium, optimised; the first time takes a quarter of an hour"
	@$(MEASURED)
	@$(MEASURE) ipfs -- $(S)

bench-follow: ## a Kubo, a Helia and a mirror that follow a broadcast by IPNS over PubSub, in the optimised build: ten minutes, or S=seconds
	@$(SAY) "building podium, optimised; the first time takes a quarter of an hour"
	@$(MEASURED)
	@$(MEASURE) follow -- $(S)

bench-store: ## what the store writes for each byte of media, and how often it syncs
	@cargo build -q --workspace --examples
	@strace -qq -f -c -e trace=fsync,fdatasync,syncfs,sync_file_range target/debug/examples/bench-store
	@target/debug/examples/bench-store full

fuzz: ## libFuzzer on every target for S=300 seconds each; T=name only that one (the short run is in make test)
	@tests/setup/fuzz $(or $(S),300) $(T)

clean: ## remove what was built (.podium stays: it holds the box's identity and its broadcasts)
	cargo clean
	rm -rf firmware/web/dist firmware/web/node_modules tests/judges/node_modules tests/artifacts
