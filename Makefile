# A newcomer's two commands are `make demo` and `make test`; `make install` alone makes .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test test-faults fault-table test-kill test-law test-day soak lint bench dashboards lock screenshots clean

install: $(STAMP)

# The lock names every package with its hashes and no address; the project itself installs without fetching a build environment.
$(STAMP): requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("margin-monitor needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	$(BIN)/margin-monitor demo $(ARGS)

test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not bench" --ignore tests/faults --ignore tests/faults_out --ignore tests/kill --ignore tests/law --ignore tests/soak $(ARGS)

# What runs real processes in compressed time, where a neighbour on the machine may win: what failed runs once more, alone.
REMEMBER = -o addopts="-ra --strict-markers --strict-config"
ALONE = $(REMEMBER) --last-failed --last-failed-no-failures none -n 0

# The fault catalogue, row by row. What lives in one process runs in a loop whose time jumps, and gets no second try.
test-faults: install
	$(BIN)/python -m pytest tests/faults -n auto --dist worksteal $(ARGS)
	$(BIN)/python -m pytest tests/faults_out $(REMEMBER) -n auto --dist worksteal $(ARGS) || \
	  $(BIN)/python -m pytest tests/faults_out $(ALONE) $(ARGS)

# Runs the catalogue and writes its table into the docs.
fault-table: install
	FAULT_TABLE=deploy/docs/faults.md $(BIN)/python -m pytest tests/faults tests/faults_out -n auto --dist worksteal $(ARGS)

# 300 deaths by kill -9, 20,000 steps of the incidents' life, 100,000 broken frames for each decoder, 10,000 orders of a recording.
test-kill: install
	$(BIN)/python -m pytest tests/kill -n auto --dist worksteal $(ARGS)

# 20,000 steps of markets, trades and things that break: a pool that is critical for a minute is notified, or notified as UNKNOWN.
test-law: install
	$(BIN)/python -m pytest tests/law -n auto --dist worksteal $(ARGS)

# A day of 24 hours in three minutes. Alone on the machine: it measures memory.
test-day: install
	$(BIN)/python -m pytest tests/soak $(REMEMBER) $(ARGS) || $(BIN)/python -m pytest tests/soak $(ALONE) $(ARGS)

# The day, and 1,000 deaths.
soak: install
	MARGIN_KILLS=1000 $(BIN)/python -m pytest tests/kill $(ARGS)
	$(MAKE) test-day

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m pytest tests/bench -m bench -s $(ARGS)

# grafana/dashboards from the typed Python beside it; a test compares.
dashboards: install
	$(BIN)/python -m grafana.build

# Needs uv; the results name packages and hashes, never an index. The other two keep to the versions that are tested.
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate
lock:
	$(LOCK) pyproject.toml --extra dev -o requirements-dev.lock
	$(LOCK) pyproject.toml -c requirements-dev.lock -o requirements.lock
	echo hatchling | $(LOCK) - -c requirements-dev.lock -o requirements-build.lock

# The README's pictures of the page, of the demo in a real Chromium.
screenshots: install
	$(BIN)/python tests/page/take_screenshots.py deploy/images

clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis
