# What one does with this repository. Each target installs what it needs (as root, or says what to
# install) and needs nothing running beforehand.

CARGO     ?= cargo
# What is run and tested here, and what is shipped and measured.
QUICK     := target/quick/eventodb
EXTERNAL  := test_external
# What the servers of a run wrote: it is searched for secrets.
LOGS      := $(CURDIR)/target/black-box-logs
FUZZ_SECONDS ?= 600
# A PostgreSQL for tests. What it holds need not outlive the machine.
PRIVATE_POSTGRES := PG_OPTIONS="-c fsync=off" .ci/with-postgres
# For packages, and for roots and containers to try them in.
DEBIAN_RELEASE := build-essential ca-certificates curl debootstrap docker-compose iproute2 jq lintian podman runc
DEBIAN    := build-essential ca-certificates caddy jq nginx-light openssl postgresql pgbouncer strace

.DEFAULT_GOAL := help
.PHONY: help run run-postgres build release dist release-check test binary check lint test-rust test-external faults groups-check migration-check memory scaling-check bench bench-smoke bench-micro site fuzz deps deps-run clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# On a terminal the server is a job of its own: Ctrl-C is for it alone, and make ends as it does.
run: deps-run build ## Builds and starts the server on SQLite in ./data
	@[ ! -t 0 ] || set -m; ./$(QUICK) serve --data-dir ./data

run-postgres: deps build ## Starts a private PostgreSQL and the server on it, for a look
	@.ci/with-postgres sh -c 'exec ./$(QUICK) serve --db-url "$$EVENTODB_TEST_PG_URL"'

build: ## Builds the binary of `make run` and of the black-box tests, which is optimised little
	@$(CARGO) build --locked --profile quick --bin eventodb

release: deps-run ## Builds the binary that is shipped and measured: optimised as a whole, stripped, at most 20 MB
	ops/package/build

dist: deps-run ## Packs it: target/dist has the archive with manual pages, completions, licences and the list of crates, and its sum
	ops/package/dist

release-check: ## Packs everything that is shipped and tries it: archive, Debian package, container, crates; builds the site. As root, up to an hour
	@.ci/install $(DEBIAN_RELEASE)
	ops/package/dist
	ops/package/deb $$(.ci/release version) target/dist
	ops/package/check-archive
	ops/package/check-deb
	ops/package/check-upgrade
	ops/package/check-container
	ops/package/check-crates
	.ci/site

# The binary is built and tested beside the rest: alone, either leaves a core idle where crates wait for each
# other and tests for a time limit.
test: deps ## Everything that CI runs
	$(MAKE) -j2 binary check

# What needs the binary, one after the other.
binary: build
	$(MAKE) test-external
	$(MAKE) bench-smoke

# One after the other, whatever runs beside them.
check:
	$(MAKE) lint
	$(MAKE) test-rust

lint: ## fmt, clippy and rustdoc, nothing tolerated; the index of decisions, the order of folders, what packages are made of, the alerts; licences and sources of dependencies where cargo-deny is installed
	.ci/decisions
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --all-features --quiet
	.ci/deny
	.ci/layers
	.ci/packages
	.ci/alerts

test-rust: deps ## Unit, property, conformance, integration and crash tests
	$(PRIVATE_POSTGRES) $(CARGO) test --locked --workspace --all-features

test-external: deps build ## The black-box tests of the binary that `make build` makes, on each backend
	cd $(EXTERNAL) && npm ci --no-audit --no-fund --silent
	cd $(EXTERNAL) && npm run typecheck
	cd $(EXTERNAL) && EVENTODB_TEST_BACKEND=memory npm run suite
	rm -rf $(LOGS)
	$(PRIVATE_POSTGRES) sh -c 'cd $(EXTERNAL) && EVENTODB_TEST_BACKEND=postgres EVENTODB_TEST_LOGS=$(LOGS) npm run suite'
	cd $(EXTERNAL) && EVENTODB_TEST_BACKEND=sqlite EVENTODB_TEST_LOGS=$(LOGS) npm run suite
	cd $(EXTERNAL) && EVENTODB_TEST_LOGS=$(LOGS) npm run search

faults: deps ## Fails each call on each file of a SQLite store, whatever befalls a PostgreSQL, and damages files of killed servers; prints what holds
	EVENTODB_TEST_FAULTS=all RUST_BACKTRACE=0 $(CARGO) test --locked -p eventodb --test process -- matrix --nocapture

# The seeds of CI are among them. The members and servers of the hard test leave the cores idle often enough that all its forms run at once.
groups-check: deps ## Consumer groups at length: a million steps of each backend beside their model, 50,000 behind a PgBouncer; 30 minutes of members, servers and databases that are killed; hand-over times; a thousand poison messages, waits and races
	EVENTODB_TEST_GROUPS_STEPS=1000000 .ci/with-postgres $(CARGO) test --locked --profile quick -p eventodb-store --test groups -- the_rules_answer_as_the_model sqlite_answers_as_the_model postgres_answers_as_the_model --exact --nocapture
	EVENTODB_TEST_GROUPS_STEPS=50000 .ci/with-postgres $(CARGO) test --locked --profile quick -p eventodb-store --test groups -- tiny_bounds pooler --nocapture
	EVENTODB_TEST_ROUNDS=1000 .ci/with-postgres $(CARGO) test --locked -p eventodb-store --lib -- of_racing --nocapture
	EVENTODB_TEST_GROUPS_SECONDS=1800 EVENTODB_TEST_GROUPS_POOLER_SECONDS=300 $(CARGO) test --locked -p eventodb --test process -- consumers::storm --nocapture --test-threads 3
	EVENTODB_TEST_GROUPS_ROUNDS=1000 $(CARGO) test --locked -p eventodb --test process -- consumers::poison consumers::waits --nocapture --test-threads 1
	EVENTODB_TEST_GROUPS_ROUNDS=200 $(CARGO) test --locked -p eventodb --test process -- consumers::handover consumers::moves --nocapture --test-threads 1

migration-check: deps build ## A Message DB of 100,000 messages moves under writes, and a consumer group goes on in its middle; ten minutes
	cd $(EXTERNAL) && npm ci --no-audit --no-fund --silent
	$(PRIVATE_POSTGRES) sh -c 'cd $(EXTERNAL) && EVENTODB_TEST_MIGRATION=100000 node --import tsx --test tests/migrating.test.ts'

memory: deps ## 16,000 connections of four processes that hold whatever they are let, against a budget of 1 GiB
	EVENTODB_TEST_MEMORY=all $(CARGO) test --locked -p eventodb --test process -- memory --nocapture

scaling-check: deps ## 10,000 writes over connections that are cut and whose answers are forged; 40 moves of a log between two nodes under writes: nothing is lost, and what was said not to be written is not there
	EVENTODB_TEST_OUTCOMES=10000 $(PRIVATE_POSTGRES) $(CARGO) test --locked -p eventodb-store --lib postgres::tests::outcomes -- --nocapture
	EVENTODB_TEST_NODES=40 $(PRIVATE_POSTGRES) $(CARGO) test --locked -p eventodb-store --lib postgres::tests::nodes -- --nocapture
	EVENTODB_TEST_NODES=40 $(PRIVATE_POSTGRES) $(CARGO) test --locked -p eventodb-store --test conformance two_nodes -- --nocapture

bench: deps release ## Every scenario on each backend; reports below target/bench, tables and pictures in docs/
	./bench/run

bench-smoke: deps build ## One minute of every scenario, for function, not for speed
	EVENTODB_BINARY=$(QUICK) ./bench/run --smoke

bench-micro: deps-run ## Microbenchmarks of the parts whose cost decides
	$(CARGO) bench --locked -p eventodb-protocol -p eventodb-store

site: deps-run ## The documents as a site with a search, in target/site; the first time it compiles mdbook into target/tools
	.ci/site

fuzz: deps-run ## Each fuzz test for FUZZ_SECONDS (600); the suite runs some cases of each
	FUZZ_SECONDS=$(FUZZ_SECONDS) .ci/fuzz

deps-run:
	@.ci/install build-essential

deps:
	@.ci/install $(DEBIAN)

clean: ## Removes what was built
	$(CARGO) clean
	rm -rf $(EXTERNAL)/node_modules
