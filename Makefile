# Everything sets itself up: `make demo` and `make test` need Python 3.11 or newer, and nothing else of ours.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
ROOTS := service providers testing
.DEFAULT_GOAL := help

.PHONY: help install demo test lint types protos protos-check contract clean lock

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

install: $(STAMP)  ## Make .venv, with every dependency pinned by hash

$(STAMP): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: install  ## Sign, publish, verify and rotate, on an emulated AWS KMS
	@$(BIN)/python examples/demo.py

test: install  ## Run all tests, and show branch coverage (PYTEST="-k name" picks some)
	@.ci/tools
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist loadfile $(PYTEST)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

GOOGLEAPIS := build/googleapis/google/rpc/status.proto

$(GOOGLEAPIS): $(STAMP)
	@mkdir -p $(@D)
	@cp "$$($(BIN)/python -c 'import google.rpc, pathlib; print(pathlib.Path(list(google.rpc.__path__)[0], "status.proto"))')" $@

contract: install  ## Run the provider contract, and print provider x algorithm x outcome
	@$(BIN)/python -m sealwright_testing.contract tests/contract

lint: install $(GOOGLEAPIS)  ## Style, import contracts, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf build --exclude-source-info --output build/now.json
	$(BIN)/buf breaking build/now.json --against protos/released.json --config '{"version": "v2", "breaking": {"use": ["FILE"]}}'

types: install  ## mypy, strict
	$(BIN)/mypy
	$(BIN)/mypy tests examples benchmarks

protos: install $(GOOGLEAPIS)  ## Generate service/sealwright/v1 from protos/
	rm -f service/sealwright/v1/*_pb2*
	$(BIN)/python -m grpc_tools.protoc -I protos -I build/googleapis --python_out=service --pyi_out=service --grpc_python_out=service \
	    $$(find protos -name '*.proto' | sort)

protos-check: protos  ## Fail where the generated code is not what protos/ says
	git diff --exit-code -- service/sealwright/v1
	@test -z "$$(git status --porcelain -- service/sealwright/v1)" || { git status --short -- service/sealwright/v1; exit 1; }

lock: install  ## Pin the newest dependencies that pyproject.toml allows (needs uv on the PATH)
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header \
	    pyproject.toml --extra aws --extra pkcs11 -o requirements/service.lock
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header \
	    pyproject.toml --extra aws --extra pkcs11 --extra testing --group dev -c requirements/service.lock -o requirements/dev.lock

	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header \
	    requirements/build.in -c requirements/dev.lock -o requirements/build.lock
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header \
	    requirements/interop.in -o requirements/interop.lock

clean:  ## Remove what was made
	rm -rf .venv build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
