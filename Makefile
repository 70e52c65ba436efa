.PHONY: conformance conformance-faults deb dist reproduce help demo test test-extra chaos chaos-pull chaos-bucket chaos-controls fuzz mutants bench bench-pull bench-growth bench-neighbours bench-large bench-serve bench-bucket bench-micro bench-instructions

TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 20

demo: ## the whole story on this machine: push over ssh, pull back, compare
	@.ci/setup
	@tests/demo.sh

deb: ## packages for Debian, and RPMs, in target/packages
	@.ci/setup extra
	@.ci/deb

dist: ## a tarball with static programs, in target/packages
	@.ci/setup extra
	@.ci/dist

reproduce: ## build the tarball twice, in two directories, and compare
	@.ci/setup extra
	@.ci/reproduce

test: ## everything that a change must pass
	@.ci/setup
	@.ci/test

test-extra: ## the same, with a release build, a 2 GiB file and the dependency policy
	@.ci/setup extra
	@.ci/test --extra

chaos: ## kills, failing calls, full disks and power cuts, as root (tests/README.md)
	@.ci/setup
	@cargo build --quiet --release --package bst-artifact-receive
	@cargo build --quiet --package artifact-tests --bin chaos
	@ARTIFACT_TESTS_PROGRAMS="$(TARGET)/release" "$(TARGET)/debug/chaos"

chaos-pull: ## the same for pulls into repositories of one's own, as root
	@.ci/setup
	@cargo build --quiet --package artifact-tests --bin chaos --bin chaos-puller
	@ARTIFACT_TESTS_PROGRAMS="$(TARGET)/debug" "$(TARGET)/debug/chaos" --pull

chaos-bucket: ## the same for object storage: in memory, and on Ceph's gateway, as root
	@.ci/setup extra
	@CHAOS_ROUNDS=$(or $(ROUNDS),200) cargo test --release --package artifact-store --lib -- --nocapture \
		goes_wrong
	@cargo build --quiet --release --workspace --bins
	@tests/bucket/ceph up >/dev/null
	@tests/bucket/chaos "$(TARGET)/release"

chaos-controls: ## show that seeded faults and faked syncs are caught, as root
	@.ci/setup
	@tests/controls/run

conformance: ## try both programs against the SPEC, case by case (tests/conformance/README.md)
	@cargo build --quiet --workspace --bins
	@tests/conformance/run receiver -- "$(abspath $(TARGET))/debug/bst-artifact-receive"
	@tests/conformance/run client -- "$(abspath $(TARGET))/debug/artifact-cache" push --repo {repo} \
		--remote kit:cache --ssh {server} {ref}

conformance-faults: ## plant faults in the examples of the kit: each must fail a case
	@tests/conformance/faults/run --jobs 8

fuzz: ## fuzz every target for SECONDS=60 each, on nightly (fuzz/README.md)
	@.ci/setup
	@FUZZ_SECONDS="$(or $(SECONDS),60)" fuzz/run

BENCH_DATA ?= $(TARGET)/bench/data

mutants: ## break the code in one place at a time, and expect a test to fail (hours; SHARD=0/8 for a part)
	@.ci/setup
	@command -v cargo-mutants >/dev/null || { echo "mutants: installing cargo-mutants from crates.io"; \
	    cargo install --locked --quiet cargo-mutants; }
	@part="--no-shuffle $(if $(SHARD),--shard $(SHARD))"; status=0; \
	cargo mutants --package artifact-formats --package artifact-protocol $$part \
	    --output "$(TARGET)/mutants/protocol" || status=$$?; \
	cargo mutants --package artifact-store $$part --output "$(TARGET)/mutants/store" \
	    -- --lib --test rights --test verify --test local || status=$$?; \
	exit $$status

bench: ## measure against the peers, some 25 minutes (tests/bench/README.md)
	@.ci/setup bench "$(BENCH_DATA)/ostree-push"
	@cargo build --quiet --release --workspace --bins
	@ARTIFACT_TESTS_PROGRAMS="$(abspath $(TARGET))/release" BENCH_DATA="$(abspath $(BENCH_DATA))" \
		"$(TARGET)/release/bench"

bench-pull: ## measure pulls against ostree, tar and rsync, some 30 minutes (tests/bench/README.md)
	@.ci/setup bench "$(BENCH_DATA)/ostree-push"
	@cargo build --quiet --release --workspace --bins
	@ARTIFACT_TESTS_PROGRAMS="$(abspath $(TARGET))/release" BENCH_DATA="$(abspath $(BENCH_DATA))" \
		"$(TARGET)/release/bench" pull

bench-growth: ## plot the cost of a push as refs, objects and history grow, some minutes
	@.ci/setup
	@cargo build --quiet --release --workspace --bins
	@ARTIFACT_TESTS_PROGRAMS="$(abspath $(TARGET))/release" "$(TARGET)/release/bench" growth

bench-neighbours: ## measure what the worst pushes of one key cost all others, some minutes
	@.ci/setup
	@cargo build --quiet --release --workspace --bins
	@ARTIFACT_TESTS_PROGRAMS="$(abspath $(TARGET))/release" "$(TARGET)/release/bench" neighbours

bench-large: ## measure memory for 1,000,000 objects and for one of 10 GiB, some 20 minutes
	@.ci/setup
	@cargo build --quiet --release --workspace --bins
	@ARTIFACT_TESTS_PROGRAMS="$(abspath $(TARGET))/release" BENCH_DATA="$(abspath $(BENCH_DATA))" \
		BENCH_CASES=M,G BENCH_WORKS=full BENCH_PEERS=ours BENCH_RTT=0 BENCH_PLACES=disk BENCH_RUNS=0 \
		BENCH_EXTRAS=none BENCH_OUT="$(abspath $(TARGET))/bench/results-large" "$(TARGET)/release/bench"

bench-serve: ## measure the https server against nginx, as root, some 15 minutes
	@.ci/setup
	@command -v h2load nginx >/dev/null || { echo "bench: installing nginx-light, nghttp2-client"; \
	    apt-get install -qq -y --no-install-recommends nginx-light nghttp2-client >/dev/null; }
	@cargo build --quiet --release --workspace --bins
	@tests/bench/serve "$(TARGET)/release"

bench-bucket: ## measure pushes into Ceph's gateway against s5cmd and aws, as root, some minutes
	@.ci/setup extra
	@cargo build --quiet --release --workspace --bins
	@tests/bucket/ceph up >/dev/null
	@tests/bucket/bench "$(TARGET)/release" $(OBJECTS)

bench-micro: ## measure frames, verifier, closure walk and offers in isolation
	@.ci/setup
	@cargo bench --quiet --package artifact-bench --bench micro

bench-instructions: ## count the instructions of the frame codec, and compare
	@.ci/setup bench "$(BENCH_DATA)/ostree-push"
	@cargo build --quiet --release --package artifact-bench
	@tests/bench/instructions "$(TARGET)/release/bench"
