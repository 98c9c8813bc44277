# The commands of this project; CI runs the same ones. `make setup` first asks for nothing but Python 3.11 and make.

.PHONY: setup run test test-long test-unit chaos autobahn lint docs bench bench-peers bench-latency bench-memory bench-growth bench-broadcast bench-listener bench-metrics bench-ingest bench-clients bench-analytics lock clean
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
# The first of these that is 3.11 or newer; or the one that is given: make setup PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

# Everything, sample feed included: what you see is what weir does.
run: setup
	$(BIN)/weir demo

# Two at a time: most tests wait for something most of the time. A file's tests stay together and in order; those that
# take long come first, so that neither of the two waits for the other at the end.
test: setup lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" --durations=40

# What `make test` leaves out, for it takes long: the benchmarks themselves, run small, and more of the same faults.
test-long: setup
	$(BIN)/pytest -m long

test-unit: setup
	$(BIN)/pytest tests/unit

# The long fault runs, about two minutes each, against the links job or (CASE=monitoring) both monitoring jobs. What has
# passed is not run again: build/chaos/runs.jsonl says what has.
SEEDS ?= 1-20
CASE ?= links
chaos: setup
	PYTHONPATH=tests $(BIN)/python -m chaos.run $(SEEDS) $(CASE)

# Autobahn's WebSocket test suite, which needs a Python 2.7 with pip: make autobahn PYTHON2=/path/to/python2.7
PYTHON2 ?= python2.7
autobahn: setup
	$(BIN)/python tests/autobahn.py $(PYTHON2)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/sphinx-build --fail-on-warning --quiet docs build/docs
	@echo "The pages are in build/docs/index.html"

# Half a minute; those below take minutes each, and want the machine for themselves.
bench: setup
	$(BIN)/python -m benchmarks.links --events 1000000

# Beside Kafka Streams and Flink: make bench-peers PEERS=the folder that holds them (benchmarks/links.py says how).
bench-peers: setup
	@[ -n "$(PEERS)" ] || { echo "weir: make bench-peers PEERS=FOLDER; benchmarks/links.py says what is in it" >&2; exit 1; }
	$(BIN)/python -m benchmarks.links --linger 200ms 1s --workers 1 2 --repeat 3 --peers $(PEERS)

bench-latency: setup
	$(BIN)/python -m benchmarks.latency

bench-memory: setup
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.restart

bench-growth: setup
	$(BIN)/python -m benchmarks.growth --plot docs/explanation/growth.svg

bench-broadcast: setup
	$(BIN)/python -m benchmarks.broadcast
	$(BIN)/python -m benchmarks.broadcast --never-read 1
	$(BIN)/python -m benchmarks.broadcast --kill
	$(BIN)/python -m benchmarks.broadcast --sustain

bench-listener: setup
	$(BIN)/python -m benchmarks.listener --rounds 3 --seconds 4

# The last one takes a quarter of an hour.
bench-metrics: setup
	$(BIN)/python -m benchmarks.metrics_processor
	$(BIN)/python -m benchmarks.metrics_processor --ways --events 200000
	$(BIN)/python -m benchmarks.sketches
	$(BIN)/python -m benchmarks.metrics --repeat 3
	$(BIN)/python -m benchmarks.metrics --sustain 600

bench-ingest: setup
	$(BIN)/python -m benchmarks.ingest

bench-clients: setup
	$(BIN)/python -m benchmarks.client_store
	$(BIN)/python -m benchmarks.clients_api

# ROWS of events are asked for: 100 million take 15 minutes and 30 GB of disk.
ROWS ?= 10000000
bench-analytics: setup
	$(BIN)/python -m benchmarks.analytics_store --rows 20000000 --seconds 300
	$(BIN)/python -m benchmarks.analytics_query --rows $(ROWS)
	$(BIN)/python -m benchmarks.archive

setup: $(READY)

# Exactly what requirements.txt locks, then weir itself, editable. Done again only when one of these files changes.
$(READY): requirements.txt setup.cfg pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "weir: Python 3.11 or newer is needed; install it, or name one: make setup PYTHON=/path/to/python" >&2; \
		exit 1; \
	elif [ -n "$(UV)" ]; then \
		set -e; \
		echo "Setting up $(VENV) with uv."; \
		[ -x $(BIN)/python ] || uv venv --quiet --python "$(PYTHON)" $(VENV); \
		VIRTUAL_ENV=$(VENV) uv pip sync --quiet --require-hashes requirements.txt; \
		VIRTUAL_ENV=$(VENV) uv pip install --quiet --no-deps --no-build-isolation --editable .; \
	elif ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "weir: this Python cannot make environments; install python3-venv (Debian, Ubuntu), or uv" >&2; \
		exit 1; \
	else \
		set -e; \
		echo "Setting up $(VENV) with pip; this takes about half a minute."; \
		[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear $(VENV); \
		$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt; \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@touch $(READY)

# Resolves anew: the Python packages (needs uv), and the jars of the embedded Kafka.
lock: setup
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-annotate \
		--all-extras --custom-compile-command "make lock" setup.cfg --output-file requirements.txt
	$(BIN)/python -m infra.servers.lock

# Everything that can be made again. The data in .weir is not.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
