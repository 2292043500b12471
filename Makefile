# What a person types. The logic lives in ci/.
GO ?= go
export CGO_ENABLED ?= 1

.PHONY: help build demo check test soak bench generate wheel clean

help: ## this list
	@grep -hE '^[a-z-]+%?:.*## ' $(MAKEFILE_LIST) | sed 's/%/NAME/; s/:.*## /\t/' | expand -t 14

build: ## the one static binary, build/maniple, and beside it maniple-native, if its compiler can be had
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o build/maniple ./launcher/cmd/maniple
	ci/native/build.sh build/maniple-native

demo: ## train a network with 2 nodes x 2 ranks on this machine
	bash ci/demo.sh

check: ## lint and all tests that need no root, network or torch
	$(GO) run ./ci/suite check

test: ## everything: -race, real processes, real Slurm, torch (root for Slurm)
	$(GO) run ./ci/suite test

soak: ## repetitions and random kills
	$(GO) run ./ci/suite soak

bench: ## beside peers; results in docs/perf
	$(GO) run ./ci/bench all

bars-%: ## every bar of an issue: bars-first-light (BARS_SUITE=3 with make test three times, else that bar fails), bars-runtime, bars-data-plane (about an hour), bars-yarn; BARS_RESUME=1 goes on with one that was cut off
	$(GO) run ./ci/bench bars $*

generate: ## generated code, with flatc built from the pinned module
	$(GO) run ./ci/gen

wheel: ## dist/maniple-*.whl, which carries the binaries and, with a C compiler and Python.h here, the extension
	python=$$(ci/python/env.sh dev) && ci/python/fast.sh $$python && $$python -m pip wheel --quiet --no-deps --no-build-isolation -w dist ./libs/python && ls dist/*.whl

clean: ## what was built
	rm -rf build dist libs/python/build
