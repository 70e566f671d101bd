# Everything runs in .venv, which each target makes when it is not there or when its versions changed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

help:  ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## Make a sample shop, train on it, evaluate and rank; leaves everything in demo/
	$(BIN)/zhichun demo demo

test: $(STAMP)  ## Lint, check types and run every test (with the real extract where ESCI_DATA names it)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

format: $(STAMP)  ## Put imports and layout in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: $(STAMP)  ## Write the README's table of results anew from benchmarks/results
	$(BIN)/python benchmarks/render_results.py

clean:  ## Remove the virtual environment, the demo and all caches
	rm -rf .venv demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

# torch goes first: with the exact version pinned, pip takes the build for this machine and nothing else replaces it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt \
		--editable '.[train,dev,serve,clients,audit,onnx,word2vec,translate]'
	touch $(STAMP)

.DEFAULT_GOAL := help
.PHONY: help demo test format results clean
