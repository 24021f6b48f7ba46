# A thin face: `make help` says what there is. The build itself is CMake's (CMakePresets.json).
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
SEEDS ?= 1000
MINUTES ?= 10
ifneq ($(shell command -v ccache),)
export CMAKE_CXX_COMPILER_LAUNCHER ?= ccache
endif
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'
	@tests/run --list | sed 's/^/  make test-/'

.PHONY: setup
setup: ## installs the Debian packages that are missing
	@scripts/setup build

.PHONY: setup-test
setup-test:
	@scripts/setup build test python mpi

.PHONY: build
build: setup ## release build in build/release
	@test -f build/release/build.ninja || cmake --preset release
	@cmake --build --preset release

.PHONY: demo
demo: build ## trains on four processes while two of them are killed
	@python3 examples/demo.py

.PHONY: demo-hosts
demo-hosts: build ## trains on three hosts (network namespaces, as root) while one of them is cut off
	@scripts/setup test
	@python3 examples/demo_hosts.py

.PHONY: install
install: build ## headers, library, hora, CMake package, pkg-config file: PREFIX=DIR
	@cmake --install build/release --prefix $(PREFIX)

.PHONY: wheel
wheel: build ## the Python package: build/wheel/hora-*.whl
	@scripts/setup python
	@scripts/wheel

.PHONY: test
test: setup-test ## everything that needs no GPU; the suites run alone as:
	@tests/run

test-%: setup-test
	@tests/run $*

.PHONY: dev
dev: setup-test
	@test -f build/dev/build.ninja || cmake --preset dev
	@cmake --build --preset dev

.PHONY: sim
sim: setup-test ## the protocol machines under random faults: SEEDS=1000
	@test -f build/dev/build.ninja || cmake --preset dev
	@cmake --build --preset dev --target hora_sim
	@build/dev/hora_sim --seeds $(SEEDS)

.PHONY: bench
bench: build ## hora beside the installed peers: a table, JSON and a page in build/bench
	@python3 perf/compare.py

.PHONY: soak
soak: dev ## random SIGKILLs against running jobs: MINUTES=10
	@python3 tests/processes/kill_test.py --minutes $(MINUTES)

.PHONY: fuzz
fuzz: setup-test ## the decoders under random bytes: MINUTES=10
	@scripts/setup lint
	@test -f build/fuzz/build.ninja || cmake --preset fuzz
	@cmake --build --preset fuzz --target hora_fuzz
	@mkdir -p build/fuzz/found
	@build/fuzz/hora_fuzz -max_total_time=$$(($(MINUTES) * 60)) build/fuzz/found tests/fuzz/corpus

.PHONY: lint
lint: setup-test ## layout, clang's lock analysis, clang-tidy
	@scripts/setup lint
	@scripts/lint

.PHONY: gpu-test
gpu-test: ## device memory on a real GPU; says what it skips, and succeeds where there is none
	@scripts/gpu-test
