# On a fresh machine with Python 3.11, git and make: `make demo` and `make test` need nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Outside data for tests, benchmarks and experiments; where it is absent, those that need it skip and say so.
ifneq ($(wildcard ../shared/data),)
export LUTHIER_DATA ?= $(abspath ../shared/data)
endif

# The long ones come last: soak alone takes over two hours.
BENCHMARKS := sft_lora sft_full dpo grpo contrast embed classify generate prepare prepare_large deduplicate anonymize cost kill_resume soak

.PHONY: setup demo test test-fast fuzz lint bench docs nano clean help

help:
	@echo "make demo    set up, tune the embedded model, open on a report"
	@echo "make test    set up, lint, types, all tests"
	@echo "make setup   build .venv from constraints.txt"
	@echo "make fuzz    the fuzz tests with examples drawn anew"
	@echo "make bench   run the benchmarks and write docs/benchmarks.md"
	@echo "make docs    write the generated pages of docs/"
	@echo "make nano    train the embedded model anew (needs LUTHIER_DATA)"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $(STAMP)

demo: setup
	$(BIN)/luthier demo

test: setup lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

fuzz: setup
	LUTHIER_FUZZ_ANEW=1 $(BIN)/python -m pytest -n 2 -m slow tests/fuzz

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One after another: each measures the whole machine. What falls short is recorded too, and named at the end.
bench: setup
	@short=; for name in $(BENCHMARKS); do \
		echo "== $$name"; rm -f out/$$name.json; \
		if [ $$name = classify ]; then set -- --accuracy; else set --; fi; \
		$(BIN)/python -m benchmarks.$$name "$$@" --json out/$$name.json || short="$$short $$name"; \
		if [ -f out/$$name.json ]; then $(BIN)/python -m benchmarks.record out/$$name.json; fi; \
	done; test -z "$$short" || { echo "failed, or short of a floor:$$short"; exit 1; }

docs: setup
	$(BIN)/python tools/write_reference.py

nano: setup
	@test -n "$(LUTHIER_DATA)" || { echo "set LUTHIER_DATA to the folder of the outside data"; exit 2; }
	test -f out/nano/nano.yaml || $(BIN)/python tools/make_nano.py out/nano
	$(BIN)/luthier run out/nano/nano.yaml --out out/nano/run

clean:
	rm -rf $(VENV) build dist out runs .pytest_cache .mypy_cache .ruff_cache
