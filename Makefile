# `make demo` and `make test` need Python >= 3.11 with venv, and a package registry. Everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export OMP_NUM_THREADS ?= 2

.PHONY: install demo test docs readme clean
install: $(STAMP)

$(STAMP): settings.ini setup.py
	@$(PYTHON) -c 'import sys; assert sys.version_info>=(3,11), f"edf_nrr needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.11 ..."'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/dd demo --path runs/demo

test: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash tests/run.sh

readme: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/docs.py --readme_only

docs: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/docs.py

clean:
	rm -rf _docs _proc build *.egg-info
