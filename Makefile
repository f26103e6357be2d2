# Velodrome's tasks.  `make` lists them.
#
# Every interpreter has a virtual environment and a folder of build outputs of its own, so that several
# Pythons live side by side:  make test PYTHON=python3.13
#
# Variables:
#   PYTHON=python3       the interpreter to build for and run on (3.11 or newer)
#   PROFILE=release      cargo's profile for the native module
#   SLOW=1               0: leave out the tests marked `slow`
#   ARGS=                more arguments for pytest, conform.py or the benches
#   LAYOUT=              0: recognise nothing of asyncio's private layout, as on a Python not yet known
#   GROUPS= MODE=loop POLL_EVERY= JOBS=1      see `conformance`
#   N=1000               how many programs `fuzz` makes

PYTHON ?= python3
PROFILE ?= release
SLOW ?= 1
ARGS ?=
MODE ?= loop
POLL_EVERY ?=
JOBS ?= 1
LAYOUT ?=
N ?= 1000

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

export PATH := $(HOME)/.cargo/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_WARN_SCRIPT_LOCATION := 1

# cpython-311, cpython-314d (the debug build), ...; empty if there is no such interpreter
TAG := $(shell $(PYTHON) -c 'import sys; print(sys.implementation.cache_tag + sys.abiflags)' 2>/dev/null)
VENV := $(CURDIR)/.venv-$(TAG)
PANIC_VENV := $(VENV)-panic
BENCH_VENV := $(VENV)-bench
TARGET := $(CURDIR)/target/$(TAG)

SOURCES := Cargo.toml pyproject.toml $(wildcard Cargo.lock) \
           $(shell find crates -path '*/src/*.rs' -o -name Cargo.toml -o -name build.rs)
PACKAGE := $(shell find python/velodrome -type f -name '*.py*' -not -name '*.pyc' 2>/dev/null)

# Extension modules for Python, each a package of its own, that the tests build.
EXTENSIONS := tests/bridge examples/mixed

say = @printf '==> %s\n' "$(1)"

## help: this list
help:
	@echo "Velodrome: asyncio, implemented in Rust.  make TARGET [VARIABLE=...]"
	@echo
	@sed -n 's/^## \([a-z-]*\): \(.*\)/  \1|\2/p; s/^##   /  |/p' $(MAKEFILE_LIST) \
	    | awk -F'|' '{ printf "  %-14s %s\n", $$1, $$2 }'
	@echo
	@sed -n '/^# Variables:/,/^$$/s/^# \{0,1\}//p' $(MAKEFILE_LIST)

## run: build, then run the tour (examples/tour.py) on Velodrome
run: build
	$(call say,the tour on velodrome)
	@$(VENV)/bin/python examples/tour.py --verbose

## build: build the native module into the interpreter's virtual environment
build: $(VENV)/.built

## test: all tests: of Rust, models of threads, of the bridge, of Python, of panics
test: test-rust test-model test-bridge test-python test-panics

## test-rust: cargo test of the crates that know no Python
test-rust: need-cargo
	$(call say,cargo test)
	@CARGO_TARGET_DIR=$(TARGET) cargo test --workspace --exclude velodrome-python --exclude velodrome-bridge --all-features

## test-bridge: the examples in the documentation of velodrome-bridge, which embed the interpreter
test-bridge: need-cargo $(VENV)/.tools
	$(call say,cargo test of the bridge on $(TAG))
	@if $(PYTHON) -c 'import sysconfig; raise SystemExit(not sysconfig.get_config_var("Py_ENABLE_SHARED"))'; then \
	    CARGO_TARGET_DIR=$(TARGET) PYO3_PYTHON=$(VENV)/bin/python cargo test -p velodrome-bridge; \
	else echo "left out: $(PYTHON) was built without a shared library, so it cannot be embedded" >&2; fi

## test-model: loom tries the orders in which threads can come, on tasks, handles and the engine's inbox
test-model: need-cargo
	$(call say,models of threads)
	@RUSTFLAGS="--cfg velodrome_model" CARGO_TARGET_DIR=$(TARGET)/model \
	    cargo test -p velodrome-engine -p velodrome --test model

## test-python: pytest on the built package
test-python: build $(VENV)/.apps
	$(call say,pytest on $(TAG))
	@$(if $(LAYOUT),VELODROME_LAYOUT=$(LAYOUT)) $(VENV)/bin/python -m pytest $(if $(filter 0,$(SLOW)),-m 'not slow') $(ARGS)

## test-panics: the tests of the build in which every slot panics when told to
test-panics: build-panic
	$(call say,panic tests on $(TAG))
	@VELODROME_PANIC_TEST=1 $(PANIC_VENV)/bin/python -m pytest tests/test_panics.py $(ARGS)

## build-panic: make that build, in a virtual environment of its own
build-panic: $(PANIC_VENV)/.built

## lint: rustfmt, clippy, rustdoc, ruff, mypy, and the stubs against the module
lint: build $(VENV)/.lint-tools
	$(call say,cargo fmt)
	@cargo fmt --all --check
	@for package in $(EXTENSIONS); do cargo fmt --check --manifest-path $$package/Cargo.toml; done
	$(call say,cargo clippy)
	@CARGO_TARGET_DIR=$(TARGET) PYO3_PYTHON=$(VENV)/bin/python \
	    cargo clippy --workspace --all-targets --all-features -- -D warnings
	@for package in $(EXTENSIONS); do PYO3_NO_PYTHON=1 PYO3_BUILD_EXTENSION_MODULE=1 \
	    CARGO_TARGET_DIR=$(TARGET)/extensions \
	    cargo clippy --locked --manifest-path $$package/Cargo.toml -- -D warnings; done
	$(call say,cargo doc)
	@CARGO_TARGET_DIR=$(TARGET) PYO3_PYTHON=$(VENV)/bin/python RUSTDOCFLAGS="-D warnings" \
	    cargo doc --no-deps --all-features -p velodrome-engine -p velodrome -p velodrome-bridge
	$(call say,ruff)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	$(call say,mypy)
	@$(VENV)/bin/mypy
	$(call say,stubtest)
	@$(VENV)/bin/python -m mypy.stubtest velodrome --mypy-config-file pyproject.toml \
	    --allowlist tests/stubtest-allowlist.txt --ignore-unused-allowlist

## format: rewrite the sources as lint wants them
format: need-cargo $(VENV)/.lint-tools
	@cargo fmt --all
	@for package in $(EXTENSIONS) benches/bridge; do cargo fmt --manifest-path $$package/Cargo.toml; done
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

## conformance: CPython's own asyncio tests on Velodrome (tests/conformance)
##   GROUPS="tasks sync" these only; MODE=install also replaces asyncio's types;
##   POLL_EVERY=1 asks the kernel on every iteration; JOBS=2 modules at a time
conformance: build
	$(call say,CPython's tests on velodrome: $(TAG)$(if $(GROUPS), $(GROUPS)) mode $(MODE))
	@$(if $(POLL_EVERY),VELODROME_POLL_EVERY=$(POLL_EVERY)) $(if $(LAYOUT),VELODROME_LAYOUT=$(LAYOUT)) $(VENV)/bin/python tests/conformance/conform.py gate \
	    $(if $(GROUPS),--groups $(GROUPS)) --jobs $(JOBS) \
	    $(if $(filter install,$(MODE)),--install velodrome:install) \
	    --out $(TARGET)/conformance/$(MODE)$(if $(POLL_EVERY),-poll)$(if $(LAYOUT),-layout).json $(ARGS)

## load: ten thousand connections and hundreds of UDP peers for a minute each, 40,000 TLS connections one after the
##   other, two thousand subprocesses; prints what they cost
load: build
	$(call say,load on $(TAG))
	@VELODROME_LOAD_SECONDS=60 $(VENV)/bin/python -m pytest -s tests/test_tcp_load.py tests/test_udp_load.py \
	    tests/test_tls_load.py tests/test_subprocess_load.py $(ARGS)
	@VELODROME_LOAD_SECONDS=60 VELODROME_TLS=fallback $(VENV)/bin/python -m pytest -s tests/test_tls_load.py $(ARGS)

## fuzz: random programs and connections, on asyncio and on Velodrome: N=1000 of each kind, new ones each time
fuzz: build
	$(call say,$(N) random programs of each kind on $(TAG))
	@VELODROME_SEARCH=$(N) $(VENV)/bin/python -m pytest -v tests/test_differential.py tests/test_transport.py tests/test_tls_wire.py $(ARGS)
	@VELODROME_SEARCH=$(N) VELODROME_TLS=fallback $(VENV)/bin/python -m pytest -v tests/test_tls_wire.py $(ARGS)

## valgrind: TLS connections under memcheck, natively and not: needs valgrind and PYTHON=python3.12 or newer
##   (older ones read what they have not initialised), takes minutes
valgrind: build
	@command -v valgrind >/dev/null || { echo "valgrind not found: on Debian, apt install valgrind" >&2; exit 1; }
	$(call say,TLS under valgrind on $(TAG))
	@for tls in native fallback; do PYTHONMALLOC=malloc VELODROME_SEARCH=50 VELODROME_TLS=$$tls valgrind --quiet --error-exitcode=99 \
	    --num-callers=30 --suppressions=tests/valgrind.supp $(VENV)/bin/python -m pytest -v -o timeout=0 \
	    -o faulthandler_timeout=0 tests/test_tls_transport.py tests/test_tls_start.py tests/test_tls_wire.py \
	    -k "kind_of_bytes or tls_in_tls or protocols_that_raise or takes_over or mangled" $(ARGS); done

## bench: compare with asyncio and other loops, into docs/performance.md and its picture; ARGS=--quick: on the screen
bench: $(BENCH_VENV)/.built
	$(call say,benches on $(TAG))
	@$(BENCH_VENV)/bin/python benches/bench.py $(or $(ARGS),--output docs/performance.md)

## bench-rust: compare the Rust face with tokio and smol, into docs/performance-rust.md
bench-rust: need-cargo
	$(call say,benches of the Rust face)
	@cd benches/rust && CARGO_TARGET_DIR=$(CURDIR)/target/bench-rust cargo run --release -- \
	    --output ../../docs/performance-rust.md $(ARGS)

## bench-bridge: compare Rust futures awaited from Python with pyo3-async-runtimes, into docs/performance-bridge.md
bench-bridge: build
	$(call say,benches of the bridge on $(TAG))
	@cd benches/bridge && PYO3_NO_PYTHON=1 PYO3_BUILD_EXTENSION_MODULE=1 \
	    CARGO_TARGET_DIR=$(CURDIR)/target/bench-bridge cargo build --release --locked
	@cp target/bench-bridge/release/libbridge_bench.so target/bench-bridge/bridge_bench.abi3.so
	@PYTHONPATH=target/bench-bridge $(VENV)/bin/python benches/bridge.py \
	    $(or $(ARGS),--output docs/performance-bridge.md)

## wheel: a wheel for the interpreter, in dist/
wheel: need-cargo $(VENV)/.tools
	@CARGO_TARGET_DIR=$(TARGET) $(VENV)/bin/maturin build --release --interpreter $(VENV)/bin/python --out dist

## clean: remove build outputs and virtual environments
clean:
	rm -rf target dist .venv-* python/velodrome/*.so
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------

# A virtual environment with the tools.  --clear: an interpreter that has gone leaves a broken one behind.
%/.tools: tests/requirements.txt | need-python
	$(call say,virtual environment $(notdir $*))
	@$(PYTHON) -m venv --clear $* || { echo "$(PYTHON) cannot make virtual environments: on Debian, apt install python3-venv" >&2; exit 1; }
	@$*/bin/python -m pip install -r tests/requirements.txt
	@touch $@

%/.lint-tools: tests/requirements-lint.txt %/.tools
	$(call say,lint tools)
	@$*/bin/python -m pip install -r tests/requirements-lint.txt
	@touch $@

# Programs for tests/apps to run. What has no wheel for this interpreter is left out, and the tests say so.
%/.apps: tests/requirements-apps.txt %/.tools
	$(call say,programs to run on velodrome)
	@sed 's/#.*//' $< | while read -r program; do \
	    [[ -z $$program ]] || $*/bin/python -m pip install --quiet --only-binary :all: "$$program" </dev/null || \
	    echo "without $$program" >&2; done
	@$*/bin/python -m pip download --quiet --no-deps --no-binary :all: --dest $*/sources \
	    "$$(grep ^anyio== $<)" </dev/null || echo "without the source of anyio" >&2
	@touch $@

# The package is installed in place: only changes of Rust need a new build.
# (The benches install other loops, which the tests had better not find.)
$(VENV)/.built $(BENCH_VENV)/.built: %/.built: %/.tools $(SOURCES) | need-cargo
	$(call say,native module for $(TAG): profile $(PROFILE))
	@VIRTUAL_ENV=$* CARGO_TARGET_DIR=$(TARGET) $*/bin/maturin develop --profile $(PROFILE)
	@touch $@

# Not in place, where it would take the place of the true one.
$(PANIC_VENV)/.built: $(PANIC_VENV)/.tools $(SOURCES) $(PACKAGE) | need-cargo
	$(call say,native module that panics for $(TAG))
	@rm -rf $(TARGET)-panic/wheels
	@CARGO_TARGET_DIR=$(TARGET)-panic $(PANIC_VENV)/bin/maturin build --profile dev --features panic-test \
	    --interpreter $(PANIC_VENV)/bin/python --out $(TARGET)-panic/wheels
	@$(PANIC_VENV)/bin/python -m pip install --force-reinstall --no-deps $(TARGET)-panic/wheels/*.whl
	@touch $@

need-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "PYTHON=$(PYTHON) is not Python 3.11 or newer" >&2; exit 1; }

need-cargo:
	@command -v cargo >/dev/null || { echo "cargo not found: install Rust with rustup (https://rustup.rs)" >&2; exit 1; }

.PHONY: help run build test test-rust test-model test-bridge test-python test-panics build-panic lint format conformance load fuzz valgrind bench bench-rust bench-bridge wheel \
        clean need-python need-cargo
.SECONDARY:
