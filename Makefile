# What a clone needs, from a fresh machine with Python 3.11, pip, git and make. `make` alone lists the targets.
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="..." goes on to the command that is run.
# uv is used when it is installed; `make UV= test` does without it.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; exit; }; done; echo python3)
UV ?= $(shell command -v uv 2>/dev/null)
ARGS ?=
BIN := .venv/bin
LOWEST := .venv-lowest/bin
TYPES_FLOOR := 0.85

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-crash test-storm model-check test-lowest check format pictures bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.demo ## run the main job, for both frameworks: ARGS="--decide reject", ARGS="--channel slack"
	@$(BIN)/governor-agents demo --framework all $(ARGS)

test: .venv/.test .venv/.browser ## run the whole test suite: ARGS="-k sqlite"
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-crash: .venv/.test ## kill processes at every named point, on every store: ARGS="--kills 50"; GOVERNOR_NIGHTLY=1 for 5,000
	@$(BIN)/python -m tests.crash $(ARGS)

test-storm: .venv/.test ## workers and approvers against each other under SIGKILL and SIGSTOP: ARGS="--gates 200"
	@$(BIN)/python -m tests.storm $(ARGS)

model-check: .venv/.test ## walk every state of the transition functions, in small configurations: ARGS="--short"
	@$(BIN)/python -m tests.model $(ARGS)

test-lowest: .venv-lowest/.test ## run the tests of code and adapters on the oldest versions that pyproject.toml allows
	@$(LOWEST)/python -m pytest -n auto --dist loadfile tests/unit tests/contract tests/integration $(ARGS)

check: .venv/.test ## lint, format, types, import rules, dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH="$(CURDIR)/$(BIN):$$PATH" basedpyright --verifytypes governor_agents --ignoreexternal --outputjson | \
		$(BIN)/python .ci/public_types.py $(TYPES_FLOOR)
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/deptry .

format: .venv/.test ## mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

pictures: .venv/.browser ## draw the pictures of the documentation anew, in docs/pictures
	@$(BIN)/python -m tests.pictures $(ARGS)

bench: .venv/.bench ## run the benchmarks: ARGS="--stores sqlite,redis --sizes 10000,100000 --effort 0.2"
	@$(BIN)/python -m pytest benchmarks -s --timeout=0 $(ARGS)

clean: ## remove the environments, builds and caches (stores such as governor.db stay)
	@rm -rf .venv .venv-lowest build dist .benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written when its step has ended well, so a second run is fast and a broken one starts over.
.venv/.demo: .venv/.made pyproject.toml
	@echo "installing governor-agents[demo] into .venv ..."
	@$(call install,$(BIN)) -e '.[demo]'
	@touch $@

.venv/.test: .venv/.made pyproject.toml
	@echo "installing governor-agents and the development tools into .venv (a minute or so) ..."
	@$(call install,$(BIN)) -e '.[demo,dev,agentdojo]'
	@touch .venv/.demo $@

# Pages and pictures are looked at in a real browser: the system's Chromium, else one of playwright's own.
.venv/.browser: .venv/.test
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing chromium, in which the tests look at pages ..."; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
		else $(BIN)/python -m playwright install chromium; fi
	@touch $@

.venv/.bench: .venv/.test
	@echo "installing what the benchmarks compare with into .venv ..."
	@$(call install,$(BIN)) -e '.[demo,dev,bench]'
	@touch $@

.venv-lowest/.test: .venv-lowest/.made pyproject.toml
	@echo "installing the oldest allowed versions into .venv-lowest (a minute or so) ..."
	@$(if $(UV),:,$(LOWEST)/python -m pip install $(quiet) uv)
	@$(or $(UV),$(LOWEST)/uv) pip install --quiet --python $(LOWEST)/python --resolution lowest-direct -e '.[demo,dev,agentdojo]'
	@touch $@

# `uv venv --seed` and the last line both leave pip inside, so either tool can go on where the other began.
# Debian's python3 has no ensurepip: its pip can still fill an empty environment from outside.
%/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "governor-agents needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if [ -n "$(UV)" ]; then "$(UV)" venv --quiet --seed --allow-existing --python "$(PYTHON)" $*; \
	elif $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $*; \
	else $(PYTHON) -m venv --without-pip $* && $(PYTHON) -m pip --python $*/bin/python install $(quiet) pip; \
	fi || { echo "no virtual environment: install Python's venv (Debian, Ubuntu: apt install python3-venv) and run make again" >&2; exit 1; }
	@touch $@

quiet := --quiet --disable-pip-version-check
install = $(if $(UV),"$(UV)" pip install --quiet --python $(1)/python,$(1)/python -m pip install $(quiet))
