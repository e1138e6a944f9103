# Each target does its own set-up: `make demo` and `make test` need only Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Most tests wait for processes and sockets, so four workers keep two cores busy.
WORKERS ?= 4
PIP := $(BIN)/pip --quiet --disable-pip-version-check
.DEFAULT_GOAL := help

.PHONY: help install demo test lint types protos protos-check contract faults soak bench bench-quick endurance dist clean lock

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

install: $(STAMP)  ## Create .venv with every dependency, pinned by hash (takes about a minute the first time)

$(STAMP): requirements/dev.lock pyproject.toml testing/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || { echo "install 1/3: creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "install 2/3: installing the $$(grep -c '^[a-z].*==' requirements/dev.lock) packages of requirements/dev.lock (the first download takes a minute or two)"
	@$(PIP) install --require-hashes --requirement requirements/dev.lock
	@echo "install 3/3: installing sealwright and sealwright-testing from this directory; the commands are in $(BIN)"
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@$(PIP) install --no-build-isolation --no-deps --editable testing
	@touch $@

demo: install  ## Sign, publish, verify and rotate on an emulated AWS KMS
	@$(BIN)/python examples/demo.py

test: install  ## Run all tests and report branch coverage (PYTEST="-k name" selects tests)
	@.ci/tools
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

faults: install  ## Run only tests/faults: dying connections, full disks, crashes, signals, strangers
	@.ci/tools
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder tests/faults $(PYTEST)

SECONDS ?= 180

soak: install  ## Rotate keys on three hosts while everything fails (SECONDS=180 SEED=number): no verifier may notice
	@.ci/tools
	@GRPC_VERBOSITY=ERROR PYTHONPATH=tests exec $(BIN)/python -m soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

contract: install  ## Run the provider contract and print a table: provider, algorithm, outcome
	@$(BIN)/python -m sealwright_testing.contract --readme README.md tests/contract

bench: install  ## Measure what a token costs, against the bare client of each KMS (under ten minutes; with h2load from nghttp2-client, if it is installed)
	@$(BIN)/python benchmarks/bench.py

bench-quick: install  ## The same for AWS alone, in a minute
	@$(BIN)/python benchmarks/bench.py --quick

TOKENS ?= 1000000

endurance: install  ## Sign a million tokens (TOKENS=number): memory, descriptors and threads must stay as they are
	@$(BIN)/python benchmarks/endurance.py --tokens $(TOKENS)

lint: install  ## Check style, import contracts and protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	@mkdir -p build
	$(BIN)/buf build --exclude-source-info --output build/now.json
	$(BIN)/buf breaking build/now.json --against protos/released.json --config '{"version": "v2", "breaking": {"use": ["FILE"]}}'

types: install  ## Check types with mypy in strict mode
	$(BIN)/mypy
	$(BIN)/mypy tests examples benchmarks docs/pictures

protos: install  ## Generate service/sealwright/v1 from protos/sealwright/v1
	rm -f service/sealwright/v1/*_pb2*
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=service --pyi_out=service --grpc_python_out=service \
	    protos/sealwright/v1/*.proto

protos-check: protos  ## Fail if the generated code differs from what protos/ generates
	git diff --exit-code -- service/sealwright/v1
	@test -z "$$(git status --porcelain -- service/sealwright/v1)" || { git status --short -- service/sealwright/v1; exit 1; }

dist: install  ## Build the wheel and the sdist of sealwright and of sealwright-testing into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build --directory "$(CURDIR)/dist"
	cd testing && "$(CURDIR)/$(BIN)/python" -m hatchling build --directory "$(CURDIR)/dist"

COMPILE = uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --no-emit-package sealwright $(LOCK)

# Each lock is constrained by those before it, so that all of them pin one version of a package.
lock:  ## Pin the dependencies with uv, and keep the pins that still fit (LOCK=--upgrade pins the newest)
	$(COMPILE) pyproject.toml --extra aws --extra azure --extra gcp --extra pkcs11 --extra postgres -o requirements/service.lock
	$(COMPILE) pyproject.toml -c requirements/service.lock -o requirements/core.lock
	for extra in aws azure gcp pkcs11 postgres; do $(COMPILE) pyproject.toml --extra $$extra -c requirements/service.lock -o requirements/$$extra.lock || exit 1; done
	$(COMPILE) pyproject.toml testing/pyproject.toml --extra aws --extra azure --extra gcp --extra pkcs11 --extra postgres --group dev -c requirements/service.lock -o requirements/dev.lock
	$(COMPILE) testing/pyproject.toml -c requirements/dev.lock -o requirements/testing.lock
	$(COMPILE) requirements/build.in -c requirements/dev.lock -o requirements/build.lock
	$(COMPILE) requirements/interop.in -o requirements/interop.lock

clean:  ## Remove everything that the other targets create
	rm -rf .venv build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
