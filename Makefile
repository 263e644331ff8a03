# Each target calls a script under ci/ that also runs by itself.
# Variables given to make (PREFIX=, DESTDIR=, INPUT=, ...) reach the scripts through the environment.

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the C library, release build
	cargo build --release --locked

demo: ## 20,000 real events from three languages through one core, with real faults
	ci/demo.sh

test: ## every check
	ci/test.sh

example-release: ## build and run a release of examples/parse_service, and read its /metrics and /status
	ci/deps.sh demo
	ci/example_release.sh

browser: ## the status page in headless Chromium, which is installed for it
	ci/deps.sh browser
	ci/browser.sh

vectors: ## the same recorded operations replayed by Rust, C, Elixir and Python
	ci/vectors.sh

bench: ## side-by-side measurements, written to target/bench/summary.json
	ci/deps.sh test
	ci/bench.sh

bench-check: ## compare the last measurements with their bounds
	ci/bench_check.sh

soak: ## a long or random run: make soak SOAK=name, or without a name the list
	ci/soak.sh $(SOAK)

mutants: ## break the core in small ways and see that a test notices: make mutants FILES=src/breaker
	ci/mutants.sh

header: ## write include/elixirscope.h
	ci/header.sh

install: ## install library, header and pkg-config file: make install PREFIX= DESTDIR=
	ci/install.sh

uninstall: ## remove what install put there
	ci/uninstall.sh

lint: ## formatting and static checks of Rust and shell
	ci/lint.sh

clean: ## remove what was built
	cargo clean
	rm -rf native_elixir/_build native_elixir/priv/native/*.so python/build

.PHONY: help build demo test example-release browser vectors bench bench-check soak mutants header install uninstall lint clean
