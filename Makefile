# Everything runs in .venv. Each target installs what it needs, once, and again when the versions change; an install
# that was interrupted is taken up where it stopped.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed-
TESTED := train,serve,dev,clients,audit,judge,stack,onnx,word2vec,translate,trackers,docs

help:  ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED)demo  ## Make a sample shop, train on it, evaluate and rank; leaves everything in demo/
	$(BIN)/zhichun demo demo

test: $(INSTALLED)test  ## Lint, check types, run every test and build the documentation (ESCI_DATA, CHORUS_DATA: real data)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory --jobs 2 types pages
	$(BIN)/pytest -n 2 --dist worksteal

types: $(INSTALLED)test
	$(BIN)/mypy

pages: $(INSTALLED)test
	$(BIN)/sphinx-build -qW --keep-going docs .venv/docs

docs: $(INSTALLED)test  ## Build the documentation as a site: site/index.html
	$(BIN)/sphinx-build -qW --keep-going docs site

format: $(INSTALLED)test  ## Put imports and layout in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: $(INSTALLED)test  ## Write docs/results.md anew from benchmarks/results
	$(BIN)/python benchmarks/render_results.py

extras: $(INSTALLED)test  ## Build the wheel and try it with each extra in an empty environment; downloads torch anew
	$(BIN)/python benchmarks/extras.py

clean:  ## Remove the virtual environment, the demo, the site and all caches
	rm -rf .venv demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(INSTALLED)demo: EXTRAS = train,serve
$(INSTALLED)test: EXTRAS = $(TESTED)

# torch goes first: with the exact version pinned, pip takes the build for this machine and nothing else replaces it.
# A package whose record is missing was being installed when the last install stopped; without its folder pip starts it anew.
$(INSTALLED)%: pyproject.toml constraints.txt
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	find .venv/lib -maxdepth 4 -name '*.dist-info' ! -exec test -e '{}/RECORD' ';' -prune -exec rm -rf '{}' +
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

.DEFAULT_GOAL := help
.PHONY: help demo test types pages docs format results extras clean
