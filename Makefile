# Every target sets itself up: nothing is needed beforehand but make, bash and Python 3.11 or newer.
# A Python under another name: make PYTHON=/path/to/python3.13 test

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links
# PyTorch's CPU build for Python 3.11 on x86_64 Linux, where requirements-gru.lock takes no other: the usual one brings gigabytes of CUDA.
TORCH_CPU_SHA256 := 6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
CODE := $(wildcard shared/tickless infra functions layers images benchmarks tests)
TYPED := shared/tickless $(patsubst %/,%,$(sort $(foreach folder,infra functions layers benchmarks,$(if $(wildcard $(folder)/*.py $(folder)/*/*.py),$(folder)))))

# Linear algebra with a thread of its own for each test worker is slower than without, and its sums depend on the count.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup gru sagemaker demo test check acceptance bench synth deploy fmt format-check lint types imports lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(READY) ## create .venv and install what requirements.lock pins

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "tickless needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1): name one with 'make PYTHON=/path/to/python3.13 …'." >&2; exit 2; }
	@rm -f $(READY)
	@echo "setup: a virtual environment in $(VENV), with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@total=$$(grep -c '^[A-Za-z0-9].*==' requirements.lock); count=0; \
	echo "setup: $$total pinned packages from requirements.lock (a minute or three, once)"; \
	$(BIN)/python -m pip install --no-input --progress-bar off --require-hashes -r requirements.lock | while read -r word rest; do \
	  case "$$word" in \
	    Collecting|Requirement) count=$$((count + 1)); [ $$((count % 25)) -ne 0 ] || echo "setup:   $$count of $$total";; \
	    Installing) echo "setup:   $$count fetched, unpacking";; \
	  esac; done
	@$(BIN)/python -m pip install --no-input --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)
	@echo "setup: ready"

gru: $(VENV)/.gru ## PyTorch for the training of recurrent networks, as requirements-gru.lock pins it (a CPU build)

$(VENV)/.gru: $(READY) requirements-gru.lock
	@echo "gru: PyTorch, some 800 MB unpacked"
	@$(BIN)/python -m pip install --no-input --quiet --require-hashes -r requirements-gru.lock || { \
	  echo "gru: needs the CPU build that requirements-gru.lock names; tell pip where to find one with PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL" >&2; exit 2; }
	@$(BIN)/python -c 'import torch'
	@touch $@
	@echo "gru: ready"

sagemaker: .sagemaker/.ready ## SageMaker's training toolkit, for the test that runs a training under it

.sagemaker/.ready: $(READY) requirements-sagemaker.txt
	@echo "sagemaker: the training toolkit in .sagemaker (builds a small C extension)"
	@rm -rf .sagemaker
	@$(BIN)/python -m pip install --no-input --quiet --no-deps --target .sagemaker -r requirements-sagemaker.txt
	@touch $@
	@echo "sagemaker: ready"

demo: $(READY) ## three simulated days of the desk on a local AWS, with a report
	@$(BIN)/tickless demo

test: $(READY) ## all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --hypothesis-profile=ci

check: $(READY) format-check lint types imports test ## what CI runs: format, lint, types, import contracts, tests
	@echo "check: everything passed"

acceptance: $(READY) ## the whole crash matrix (real processes, killed at every request of a tick), gates against luck, the longest runs of replay and backtest, a soak of 10,000 ticks (minutes)
	@$(BIN)/python -m pytest --hypothesis-profile=ci -m acceptance tests
	@$(BIN)/python -m tests.soak --ticks 10000

bench: $(READY) ## every benchmark in benchmarks/
	@found=0; for file in benchmarks/bench_*.py; do [ -e "$$file" ] || continue; found=1; echo "bench: $$file"; $(BIN)/python "$$file"; done; \
	[ $$found -eq 1 ] || { echo "bench: benchmarks/ holds no bench_*.py" >&2; exit 1; }

synth: $(READY) ## the CloudFormation template into cdk.out/ (STAGE, DESK and LIVE as for deploy)
	@$(BIN)/python -m infra.app --stage "$${STAGE:-dev}" --desk "$${DESK:-rotation}" --live "$${LIVE:-no}"

deploy: $(READY) ## layers, then `cdk deploy` with your AWS credentials (STAGE=dev and DESK=rotation by default)
	@$(BIN)/python -m infra.intent --stage "$${STAGE:-dev}" --desk "$${DESK:-rotation}" --live "$${LIVE:-no}"
	@$(BIN)/python layers/build.py
	@$(BIN)/python -m infra.cdk deploy --all -c stage=$${STAGE:-dev} -c desk=$${DESK:-rotation} -c live=$${LIVE:-no}

fmt: $(READY) ## format the code and mend what the linter can mend
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

format-check: $(READY)
	@echo "check: format"
	@$(BIN)/ruff format --quiet --check --diff $(CODE)

lint: $(READY) ## ruff
	@echo "check: lint"
	@$(BIN)/ruff check --quiet --output-format concise $(CODE)

types: $(READY) ## mypy, strict
	@echo "check: types of $(TYPED)"
	@$(BIN)/mypy --no-error-summary --exclude '(^|/)layers/[^/]+/build/' $(TYPED)

imports: $(READY) ## the import contracts of .importlinter
	@echo "check: import contracts"
	@said=$$($(BIN)/lint-imports --cache-dir .import_linter_cache 2>&1) || { echo "$$said" >&2; exit 1; }; grep KEPT <<< "$$said"

lock: ## write requirements.lock and requirements-gru.lock anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 2; }
	@$(COMPILE) $(foreach extra,aws market inference train research cli infra local dev,--extra $(extra)) --upgrade -o requirements.lock pyproject.toml
	@grep -oE 'torch==[0-9.]+' pyproject.toml | $(COMPILE) --no-annotate -c requirements.lock - \
	  | awk -v here='sys_platform == "linux" and platform_machine == "x86_64"' -v there='sys_platform != "linux" or platform_machine != "x86_64"' \
	    '/^[a-z]/ { cuda = /^(cuda-|nvidia-|triton)/ } /^torch==/ { print $$1 " ; " here " \\\n    --hash=sha256:$(TORCH_CPU_SHA256)"; $$0 = $$1 " ; " there " \\" } !cuda' > requirements-gru.lock
	@echo "lock: requirements.lock and requirements-gru.lock written; run 'make check'"
