.PHONY: help demo test test-extra chaos fuzz bench

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

chaos: ## (not there yet) faults and power cuts for hours
	@echo "make chaos: there is no long fault test yet" >&2; exit 2

fuzz: ## (not there yet) fuzz every target for hours
	@echo "make fuzz: there is no long fuzz run yet; fuzz/README.md says how to run one target" >&2; exit 2

bench: ## (not there yet) measure against the peers
	@echo "make bench: there is no benchmark yet" >&2; exit 2
