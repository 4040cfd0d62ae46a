# All targets but `clean` first set up a virtual environment with the pinned versions.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: grid test test-slow lint figures report report-check benchmarks clean

grid: .venv/installed
	$(BIN)/ablation run grid --scale tiny --precision auto

test: .venv/installed
	$(BIN)/pytest -n 2 -m "not slow"

test-slow: .venv/installed
	$(BIN)/pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmarks: .venv/installed
	$(BIN)/python -m benchmarks
	$(BIN)/python docs/speed.py

figures: .venv/installed
	$(BIN)/ablation figures

report: .venv/installed
	$(BIN)/ablation report

report-check: .venv/installed
	$(BIN)/ablation report --check

.venv/installed: pyproject.toml constraints.txt
	@echo "installing torch, Kornia and the other packages into .venv, once"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv
