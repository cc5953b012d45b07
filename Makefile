# One profile (release), one feature set (--workspace) and one target folder for everything: RocksDB is the cost of a
# build, so it is built once. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build run test test-clients test-security test-chart docs-examples frameworks torture soak stress fuzz bench lint fmt deny deny-advisories

export CARGO_TARGET_DIR ?= $(or $(KROCKET_TARGET),$(HOME)/.cache/krocket-target)
export KROCKET_BIN := $(CARGO_TARGET_DIR)/release/krocket
CARGO_FLAGS := --release --workspace --locked

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: ## install what a build needs (g++, libclang); says what is missing when it cannot
	@scripts/setup

build: setup ## build krocket
	cargo build $(CARGO_FLAGS) --bins

run: build ## build and start krocket on 127.0.0.1:9092, data in ./krocket-data; ARGS="--listen ..." are passed on
	@exec "$(KROCKET_BIN)" serve $(ARGS)

test: setup ## unit, property and whole-system tests; TEST=name runs those that match
	cargo test $(CARGO_FLAGS) --no-fail-fast -- $(TEST)

test-clients: build ## real Kafka clients of every language; CLIENTS="--only kcat,java" narrows it
	tests/clients/run $(CLIENTS)
	tests/examples/run

test-security: build ## real clients over TLS and every SASL mechanism, Kafka's own tools for ACLs
	tests/clients/security/run
	tests/clients/acls/run

test-chart: build ## the Helm chart: Helm, Kubernetes' schemas and krocket itself; CHART="-run Golden" narrows it
	tests/chart/run $(CHART)

docs-examples: build ## every example of the READMEs, as printed; EXAMPLES="--only python" narrows it
	tests/examples/run $(EXAMPLES)

frameworks: build ## Kafka Streams, Connect, Flink and Spring Kafka; FRAMEWORKS="--only streams" narrows it
	tests/clients/frameworks/run $(FRAMEWORKS)

torture: setup ## power cuts, kill -9, failing disks, clocks, load, fuzzing, for hours: docs/reliability.md; ROUNDS=50 SEEDS=100 MINUTES=5 SEED=7 ONLY=disk,time
	@ROUNDS=$(ROUNDS) SEEDS=$(SEEDS) MINUTES=$(MINUTES) SEED=$(SEED) ONLY=$(ONLY) scripts/torture

soak: setup ## 70 % of the knee with every feature for MINUTES=60: docs/soak.svg
	KROCKET_SOAK_MINUTES=$(or $(MINUTES),60) KROCKET_SOAK_OUT=$(CURDIR)/docs \
	  cargo test $(CARGO_FLAGS) --test soak -- --nocapture

stress: setup ## groups of 1000 members on 1000 partitions; MEMBERS=300 changes that
	KROCKET_STRESS_MEMBERS=$(or $(MEMBERS),1000) cargo test $(CARGO_FLAGS) --test groups -- --nocapture --test-threads=1

fuzz: setup ## fuzz what reads bytes from the wire, FUZZ_SECONDS=300 each; with nightly cargo-fuzz, libFuzzer, and fuzz/corpus grows
	fuzz/run.sh

bench: build ## krocket beside a real Apache Kafka, and its features beside a real RocketMQ; BENCH="--quick" etc. is passed on
	"$(CARGO_TARGET_DIR)/release/krocket-bench" $(BENCH)

lint: setup ## rustfmt and clippy, warnings are errors
	cargo fmt --all -- --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

fmt: ## format the code
	cargo fmt --all

# Not in .ci/run: building cargo-deny takes longer than all it asks. tests/dependencies.rs is there instead.
DENY_VERSION := 0.20.2
DENY := $(or $(KROCKET_CACHE),$(HOME)/.cache/krocket)/tools/cargo-deny-$(DENY_VERSION)

$(DENY)/bin/cargo-deny:
	CARGO_TARGET_DIR="$(DENY)/target" cargo install --locked --debug --root "$(DENY)" --version $(DENY_VERSION) cargo-deny
	rm -rf "$(DENY)/target"

deny: $(DENY)/bin/cargo-deny ## licences, bans and sources of all dependencies by cargo-deny, which is installed the first time
	"$(DENY)/bin/cargo-deny" --offline check licenses bans sources

deny-advisories: $(DENY)/bin/cargo-deny ## known vulnerabilities in dependencies; fetches the RustSec database
	"$(DENY)/bin/cargo-deny" check advisories
