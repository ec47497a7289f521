# One screen: everything a contributor or a newcomer does. Each target makes its own environment in .venv and says what it does.
PYTHON ?= python3
N ?= 200000
VENV := .venv
PY := $(VENV)/bin/python
SOURCES := $(shell find lsmsql -name '*_cy.py' -o -name '*.pxd' -o -name '*_cy.pxd') setup.py pyproject.toml

.PHONY: run test test-pure lint bench clean help

help:
	@echo "make run        index this Python's library into an encrypted database and ask it questions"
	@echo "make test       build the compiled kernels and run every test against them"
	@echo "make test-pure  run every test on a copy of the tree without any compiled module"
	@echo "make lint       ruff and mypy"
	@echo "make bench      measure against SQLite, RocksDB, LevelDB, LMDB and lsm-db (N=$(N) rows)"
	@echo "make clean      remove what the targets above have made"

$(VENV)/bin/python:
	@echo "== making $(VENV)"
	@command -v $(PYTHON) >/dev/null || { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq python3 python3-venv python3-dev; }
	@command -v cc >/dev/null || { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq gcc libc6-dev python3-dev; } || echo "no C compiler: the pure Python kernels will be used"
	@echo '#include <sqlite3ext.h>' | cc -E - >/dev/null 2>&1 || { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq libsqlite3-dev; } || echo "no SQLite headers: tables will be reached through APSW's classes"
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(PY) -m pip install -q --upgrade pip setuptools wheel "cython>=3.1"

$(VENV)/built: $(VENV)/bin/python $(SOURCES)
	@echo "== installing lsmsql and building its kernels"
	$(PY) -m pip install -q --no-build-isolation -e .
	@$(PY) -c "from lsmsql.engine.kernel import COMPILED; print('== kernels:', 'compiled' if COMPILED else 'left out, plain Python does their work')"
	@$(PY) -c "from lsmsql._compiled import bridge_module; print('== bridge to SQLite:', 'compiled' if bridge_module() else 'left out, APSW does its work')"
	@touch $@

$(VENV)/tools: $(VENV)/built
	@echo "== installing the test and lint tools"
	$(PY) -m pip install -q --no-build-isolation -e '.[test,lint]'
	@touch $@

$(VENV)/peers: $(VENV)/built
	@echo "== installing the databases to compare with (one that cannot be installed is left out)"
	@for peer in rocksdict plyvel lmdb lsm-db; do $(PY) -m pip install -q $$peer || echo "left out: $$peer"; done
	@touch $@

run: $(VENV)/built
	@echo "== indexing the Python library into demo/library.db"
	$(PY) examples/library_index.py demo/library.db

test: $(VENV)/tools
	@echo "== testing with the kernels as built"
	$(PY) -m pytest -q -n 2 --dist worksteal

test-pure: $(VENV)/tools
	@echo "== testing a copy of the tree without compiled modules, in build/pure"
	@rm -rf build/pure && mkdir -p build/pure
	@git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C build/pure
	cd build/pure && LSMSQL_PURE=1 PYTHONPATH=$(CURDIR)/build/pure $(CURDIR)/$(PY) -m pytest -q -n 2 --dist worksteal -p no:cacheprovider

lint: $(VENV)/tools
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/peers
	$(PY) -m benchmarks.run --n $(N) --markdown build/benchmark.md

clean:
	rm -rf $(VENV) build demo .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find lsmsql -name '*.so' -delete
