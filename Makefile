# Kuaixiang 快响. `make` alone shows what there is.
# Nothing is needed beforehand but Python >= 3.11 and make: every target that needs more makes .venv first.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
# Set after everything is installed, so that it is done again only when what to install has changed.
STAMP := $(VENV)/.installed

# The first Python that is new enough and can make an environment; `make PYTHON=/path/to/python3` chooses another.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c '$(SUITABLE)' >/dev/null 2>&1 && { echo $$python; break; }; done)

PIP := $(BIN)/python -m pip --disable-pip-version-check
PROTOS := $(sort $(wildcard proto/kuaixiang/wire/v1/*.proto))
GENERATED := kuaixiang/wire/v1
# What channels ask, with its comments: OpenAPI is made of it while the service runs.
DESCRIBED := channel.binpb
# $(call protoc,FOLDER) writes the Python code of all messages and services under FOLDER.
protoc = $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(1) --grpc_python_out=$(1) \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet:$(1) \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet,only_async:$(1) $(PROTOS) \
	&& $(BIN)/python -m grpc_tools.protoc -Iproto --include_source_info \
	--descriptor_set_out=$(1)/$(GENERATED)/$(DESCRIBED) $(filter %/channel.proto,$(PROTOS))

# What the pages are tested in.
BROWSER := chromium fonts-noto-cjk

# What faults are made with.
TOOLS := iproute2 nftables fiu-utils faketime fuse3

# What metrics, rules and alerts are tested with; they are unpacked, not installed, so that no service of theirs is started.
MONITORS := prometheus prometheus-alertmanager

# A file's tests share servers, hence a worker; which files come first tests/conftest.py decides. A worker that dies ends
# the run, naming its test: a new one in its place would wait for ever, as files are handed to it that it need not run.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# What a target passes on: make test ARGS="-k custody", make demo ARGS="--exit --json".
ARGS ?=

.PHONY: help
help: ## show every target (this)
	@echo 'make TARGET [ARGS="..."]'
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(STAMP) ## make .venv and install the locked packages and this one (again only when they changed)

$(STAMP): requirements.lock pyproject.toml
	@if [ -z '$(PYTHON)' ]; then \
		echo 'Python 3.11 or newer, with its venv module, is needed and none was found:' >&2; \
		echo '  looked for python3, python3.13, python3.12, python3.11, python3.14 on PATH; found: '"$$(python3 --version 2>&1)" >&2; \
		echo '  on Debian and Ubuntu venv is a package of its own: apt-get install python3-venv' >&2; \
		echo '  or name one: make setup PYTHON=/path/to/python3' >&2; \
		exit 1; fi
	@'$(PYTHON)' -c '$(SUITABLE)' || { echo '$(PYTHON) is not a Python >= 3.11 that can make environments' >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "making $(VENV) with $$('$(PYTHON)' --version)"; '$(PYTHON)' -m venv --clear $(VENV); }
	@echo 'installing the packages of requirements.lock into $(VENV)'
	@$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: setup ## run a whole federation on this machine (ARGS="--exit --json" ends after the summary)
	@$(BIN)/kx demo $(ARGS)

.PHONY: browser
browser: ## is there a Chromium for the tests of the pages? Debian's is installed where that can be done
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'installing Chromium and Chinese fonts, which the tests of the pages need'; \
		{ apt-get install -qq --yes --no-install-recommends $(BROWSER) \
			|| { apt-get update -qq && apt-get install -qq --yes --no-install-recommends $(BROWSER); }; } >/dev/null 2>&1 \
			&& exit 0; \
	fi; \
	echo 'The tests of the pages are skipped without Chromium and Chinese fonts; install $(BROWSER) (their names in Debian).' >&2

.PHONY: tools
tools: ## are there the tools that faults are made with? Debian's are installed where that can be done
	@for name in ip tc nft fiu-run faketime fusermount3; do command -v $$name >/dev/null || missing=1; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'installing $(TOOLS), which faults are made with'; \
		{ apt-get install -qq --yes --no-install-recommends $(TOOLS) \
			|| { apt-get update -qq && apt-get install -qq --yes --no-install-recommends $(TOOLS); }; } >/dev/null 2>&1 \
			&& exit 0; \
	fi; \
	echo 'Tests of faults are skipped without their tools; install $(TOOLS) (their names in Debian).' >&2

.PHONY: monitors
monitors: ## are there Prometheus, Alertmanager and their tools? Debian's are unpacked in build/monitors where that can be done
	@command -v prometheus >/dev/null && command -v promtool >/dev/null && command -v amtool >/dev/null \
		&& { command -v alertmanager || command -v prometheus-alertmanager; } >/dev/null && exit 0; \
	[ -x build/monitors/usr/bin/prometheus-alertmanager ] && exit 0; \
	if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
		echo 'fetching $(MONITORS), which metrics and alerts are tested with'; \
		{ rm -rf build/monitors && mkdir -p build/monitors && cd build/monitors \
			&& { apt-get download $(MONITORS) || { apt-get update && apt-get download $(MONITORS); }; } \
			&& for package in *.deb; do dpkg-deb --extract $$package . && rm $$package || exit 1; done; } >/dev/null 2>&1 && exit 0; \
	fi; \
	echo 'Tests of metrics and alerts are skipped without Prometheus and Alertmanager; install $(MONITORS) (their names in Debian).' >&2

# A change is judged by the same random lives as the one before it; others are lived by test-faults and test-simulation.
SEED := KX_TEST_SEED=$${KX_TEST_SEED:-20261126}

.PHONY: test
test: setup browser tools monitors ## run the tests, but those of more than ten seconds each (ARGS are pytest's)
	$(SEED) $(BIN)/python -m pytest $(WORKERS) -m "not slow" $(ARGS)

.PHONY: test-slow
test-slow: setup browser tools monitors ## run the tests of more than ten seconds each: whole demonstrations, random lives, killed processes
	$(SEED) $(BIN)/python -m pytest $(WORKERS) -m slow $(ARGS)

.PHONY: test-replay
test-replay: setup ## play the four real logs in full (half an hour, hence not in test; KX_DATA names their folder)
	KX_TEST_REPLAY=full $(BIN)/python -m pytest tests/demo/replay/test_replay.py -k whole -s $(ARGS)

.PHONY: test-faults
test-faults: setup tools ## 1,000 kills, 200 partitions and more under work (KX_TEST_KILLS, KX_TEST_PARTITIONS, KX_TEST_SEED)
	KX_TEST_KILLS=$${KX_TEST_KILLS:-1000} KX_TEST_PARTITIONS=$${KX_TEST_PARTITIONS:-200} \
		$(BIN)/python -m pytest tests/faults -s $(ARGS)

.PHONY: test-simulation
test-simulation: setup ## live seeded schedules of faults on two cores, five minutes of each (KX_TEST_SIMULATION seconds)
	KX_TEST_SIMULATION=$${KX_TEST_SIMULATION:-600} $(BIN)/python -m pytest --numprocesses 2 -rP \
		tests/simulation/test_simulation.py $(ARGS)

.PHONY: test-mutants
test-mutants: setup ## break the code in two dozen ways on purpose; the simulation has to notice each
	KX_TEST_MUTANTS=all $(BIN)/python -m pytest tests/simulation/test_mutants.py -s $(ARGS)

.PHONY: fuzz
fuzz: setup ## hostile bytes into services and fold, led by coverage (ARGS="--minutes 5 --target node")
	$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: bench
bench: setup ## run the benchmarks and keep what they give in bench/results.json (ARGS="register --short": that one, smallest)
	$(BIN)/python -m bench $(ARGS)

.PHONY: check
check: format-check lint types imports proto-lint proto-breaking proto-check ## everything that needs no run: the seven below

.PHONY: format-check
format-check: setup ## is every file formatted?
	$(BIN)/ruff format --check .

.PHONY: lint
lint: setup ## ruff, all rules
	$(BIN)/ruff check .

.PHONY: types
types: setup ## mypy, strict
	$(BIN)/mypy

.PHONY: imports
imports: setup ## import contracts: the domain pure, node and hub strangers
	$(BIN)/lint-imports --no-logo

.PHONY: proto-lint
proto-lint: setup ## buf lint
	$(BIN)/buf lint

# The wire of the last release. A field that was ever sent keeps its number, type and name: journals are read for decades,
# and a node of yesterday works beside one of today.
RELEASED := proto/released.binpb

.PHONY: proto-breaking
proto-breaking: setup ## buf breaking: does today's wire still mean what the last release's did?
	$(BIN)/buf breaking --against $(RELEASED)

.PHONY: proto-check
proto-check: setup ## is the generated code current?
	@rm -rf build/proto && mkdir -p build/proto
	@$(call protoc,build/proto)
	@diff --recursive --brief --exclude=__init__.py --exclude=__pycache__ build/proto/$(GENERATED) $(GENERATED) \
		|| { echo 'the generated code is not what proto/ says: run make proto' >&2; exit 1; }
	@echo 'generated code is current'

.PHONY: format
format: setup ## format every file and apply ruff's safe corrections
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

.PHONY: proto
proto: setup ## generate kuaixiang/wire/v1 from proto/
	@rm -f $(GENERATED)/*_pb2.py $(GENERATED)/*_pb2.pyi $(GENERATED)/*_pb2_grpc.py $(GENERATED)/*_pb2_grpc.pyi $(GENERATED)/$(DESCRIBED)
	@$(call protoc,.)
	@echo 'generated $(GENERATED)'

.PHONY: proto-release
proto-release: setup ## keep today's wire as that of the release (with the version in pyproject.toml, once for each)
	$(BIN)/buf breaking --against $(RELEASED)
	$(BIN)/buf build --exclude-source-info --output $(RELEASED)

.PHONY: sbom
sbom: setup ## build/sbom.json: every locked package with its hashes, as CycloneDX; nothing is asked
	@mkdir -p build
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON \
		--output-file build/sbom.json requirements.lock
	@echo 'build/sbom.json'

.PHONY: audit
audit: setup ## are there known vulnerabilities in locked packages? (asks PyPI; status 2 where it cannot be asked)
	@mkdir -p build && rm -f build/audit.json
	@$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off \
		--format json --output build/audit.json 2>build/audit.log; status=$$?; \
	if [ ! -s build/audit.json ]; then tail -n 1 build/audit.log >&2; \
		echo 'The advisory service could not be asked: nothing is known of the locked packages.' >&2; exit 2; fi; \
	cat build/audit.log; exit $$status

.PHONY: lock
lock: setup ## resolve requirements.lock from pyproject.toml (ARGS=--upgrade takes the newest)
	$(BIN)/uv pip compile pyproject.toml --extra demo --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		--quiet --output-file requirements.lock $(ARGS)

.PHONY: hooks
hooks: setup ## install the git hooks of .pre-commit-config.yaml
	$(BIN)/pre-commit install

.PHONY: clean
clean: ## remove .venv, caches and everything built
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
