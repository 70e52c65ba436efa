.PHONY: help demo test test-extra chaos chaos-controls fuzz bench bench-growth

TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## list what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 20

demo: ## the whole story on this machine: push over ssh, pull back, compare
	@.ci/setup
	@tests/demo.sh

test: ## all that a change must pass
	@.ci/setup
	@.ci/test

test-extra: ## the same, with a release build, a 2 GiB file and the dependency policy
	@.ci/setup
	@.ci/test --extra

chaos: ## kills, failing calls, full disks and power cuts, as root (tests/README.md)
	@.ci/setup
	@cargo build --quiet --release --package artifact-receiver --no-default-features --bins
	@cargo build --quiet --package artifact-tests --bin chaos
	@ARTIFACT_TESTS_PROGRAMS="$(TARGET)/release" "$(TARGET)/debug/chaos"

chaos-controls: ## show that seeded faults and faked syncs are caught, as root
	@.ci/setup
	@tests/controls/run

fuzz: ## fuzz every target for SECONDS=60 each, on nightly (fuzz/README.md)
	@.ci/setup
	@FUZZ_SECONDS="$(or $(SECONDS),60)" fuzz/run

BENCH_DATA ?= $(TARGET)/bench/data

bench: ## measure against the peers, some 25 minutes (tests/bench/README.md)
	@.ci/setup bench "$(BENCH_DATA)/ostree-push"
	@cargo build --quiet --release --workspace --bins
	@ARTIFACT_TESTS_PROGRAMS="$(abspath $(TARGET))/release" BENCH_DATA="$(abspath $(BENCH_DATA))" \
		"$(TARGET)/release/bench"

bench-growth: ## draw what a push takes as things grow, some minutes
	@.ci/setup
	@cargo build --quiet --release --workspace --bins
	@ARTIFACT_TESTS_PROGRAMS="$(abspath $(TARGET))/release" "$(TARGET)/release/bench" growth
