# Every target sets up what it needs: a .venv with pinned libraries, made once.
#
#   make demo     the whole chain on the simulated microscope, then a report to look at
#   make test     every check: lint, format, types, import contract, tests
#   make bench-quick   every benchmark in its quick form, within a minute each; see docs/figures.md
#   make reference     docs/reference anew, after a field or its docstring has changed
#   make lint | types | contract | check | format | clean

TORCH := 2.13.0
# On Linux the default torch is a CUDA build of several gigabytes; PyTorch's own site names an index
# of CPU builds: make demo TORCH_INDEX=<its address>
TORCH_INDEX ?=
DEMO_DIR ?= demo
# Processes that share the tests, each with one thread.
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := acquire cli models process sim examples hardware_configs package

.PHONY: demo reference test check lint types contract unit bench-quick format clean
.DEFAULT_GOAL := test

demo: $(READY)
	$(BIN)/plsctl demo $(DEMO_DIR)

# The pages of docs/reference, made from the models of the files that people write.
reference: $(READY)
	$(BIN)/plsctl schema --pages docs/reference

test: check unit

check: lint types contract

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers and import-linter do not follow an editable install: they look for a folder named
# plsctl.
build/types/plsctl:
	@mkdir -p build/types
	@ln -sfn "$(CURDIR)" build/types/plsctl

types: $(READY) build/types/plsctl
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml $(addprefix plsctl/,$(PACKAGES))

contract: $(READY) build/types/plsctl
	cd build/types && ../../$(BIN)/lint-imports --no-cache --config ../../pyproject.toml

unit: $(READY)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

bench-quick: $(READY)
	$(BIN)/python benchmarks/quick.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	@for candidate in $(PYTHON) python3 python python3.14 python3.13 python3.12 python3.11; do \
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "error: no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 2; fi; \
	test -x $(BIN)/python || $$found -m venv $(VENV)
	$(BIN)/python -m pip install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "torch==$(TORCH)"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[train,dev]"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
