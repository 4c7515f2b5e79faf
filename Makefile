# Each target makes the environment that it needs, if it is missing.
PYTHON ?= python3
# Another interpreter gets an environment of its own, so that one does not answer for the other.
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin

# The oldest interpreter: the lowest packages have no wheels for the newest.
LOWEST_PYTHON ?= python3.11
LOWEST := .venv-lowest
# What a version that is too old would break first: every stage once, and what leans on libraries most. What is
# killed and goes on is left out: it depends on no version, and takes minutes.
CORE := tests/test_pipeline.py tests/test_lowest.py tests/pipelines/test_media.py \
	tests/pipelines/test_importing.py tests/pipelines/hub/test_push.py tests/augment/test_run.py \
	tests/score/test_run.py tests/finetune/model/test_families.py tests/finetune/model/test_towers.py \
	tests/finetune/test_run.py tests/finetune/fusion/test_run.py

.PHONY: demo test test-lowest check style

demo: $(VENV)/installed
	$(BIN)/daq-msa demo --out runs/demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -k "not killed" $(CORE)

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

style: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(LOWEST)/installed: pyproject.toml
	$(LOWEST_PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=$(CURDIR)/$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --resolution lowest-direct --editable '.[dev]'
	touch $@
