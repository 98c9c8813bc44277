# The commands of this project; CI runs the same ones. `make setup` first asks for nothing but Python 3.11 and make.

.PHONY: setup runtime run test test-long test-unit chaos eos autobahn lint compose docs bench bench-peers bench-latency bench-memory bench-growth bench-broadcast bench-listener bench-metrics bench-ingest bench-hostile bench-first-run bench-clients bench-analytics lock clean
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
READY := $(VENV)/.ready
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-annotate \
	--custom-compile-command "make lock"
# The first of these that is 3.11 or newer; or the one that is given: make setup PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
NEEDS_PYTHON := [ -n "$(PYTHON)" ] || { \
	echo "weir: Python 3.11 or newer is needed; install it, or name one: make setup PYTHON=/path/to/python" >&2; exit 1; }

# Everything, sample feed included: what you see is what weir does.
run: runtime
	$(BIN)/weir demo

# Three at a time: most tests wait for something most of the time. A file's tests stay together and in order; those that
# take long come first, so that none of the three waits for the others at the end.
test: setup lint
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long" --durations=40

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

# Kafka's own exactly-once system test, with its verifier, against keyed jobs: two runs, about three minutes each.
eos: setup
	PYTHONPATH=tests $(BIN)/python -m eos.run

# Autobahn's WebSocket test suite, which needs a Python 2.7 with pip: make autobahn PYTHON2=/path/to/python2.7
PYTHON2 ?= python2.7
autobahn: setup
	$(BIN)/python tests/support/websocket/autobahn.py $(PYTHON2)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

# docker-compose.yml, from the services that there are.
compose: setup
	$(BIN)/python -m weir.compose > docker-compose.yml

docs: setup
	$(BIN)/sphinx-build --fail-on-warning --quiet docs build/docs
	@echo "The pages are in build/docs/index.html"

# Half a minute; those below take minutes each, and want the machine for themselves.
bench: setup
	$(BIN)/python -m benchmarks.links --events 1000000

# Beside other engines: make bench-peers PEERS=the folder that holds them (benchmarks/peers.py says how each is run).
bench-peers: setup
	@[ -n "$(PEERS)" ] || { echo "weir: make bench-peers PEERS=FOLDER; benchmarks/peers.py says what is in it" >&2; exit 1; }
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

bench-hostile: setup
	$(BIN)/python -m benchmarks.hostile

# From a clean clone to the first counts, with nothing cached, where the registries give 5 MB/s.
bench-first-run: setup
	$(BIN)/python -m benchmarks.first_run

bench-clients: setup
	$(BIN)/python -m benchmarks.client_store
	$(BIN)/python -m benchmarks.clients_api

# ROWS of events are asked for: 100 million take 15 minutes and 30 GB of disk.
ROWS ?= 10000000
bench-analytics: setup
	$(BIN)/python -m benchmarks.analytics_store --rows 20000000 --seconds 300
	$(BIN)/python -m benchmarks.analytics_query --rows $(ROWS)
	$(BIN)/python -m benchmarks.archive

# Exactly what the locks say, then weir itself, editable: what runs (requirements.txt), and with what develops weir on
# top (requirements-dev.txt). Done again only when one of these files changes.
setup: $(READY)
runtime: $(RUNTIME)

$(RUNTIME): requirements.txt setup.cfg pyproject.toml
	@$(NEEDS_PYTHON)
	@$(PYTHON) -P infra/environment.py set-up $(VENV) requirements.txt
	@touch $(RUNTIME)

$(READY): requirements-dev.txt requirements.txt setup.cfg pyproject.toml
	@$(NEEDS_PYTHON)
	@$(PYTHON) -P infra/environment.py set-up $(VENV) requirements-dev.txt --sync
	@touch $(RUNTIME) $(READY)

# Resolves anew: the Python packages, and the jars of the embedded Kafka.
lock: setup
	$(LOCK) --extra build setup.cfg --output-file requirements.txt
	$(LOCK) --extra build --extra archive --constraint requirements.txt setup.cfg --output-file requirements-archive.txt
	$(LOCK) --all-extras --constraint requirements.txt setup.cfg --output-file requirements-dev.txt
	$(PYTHON) -P infra/environment.py measure requirements.txt requirements-archive.txt requirements-dev.txt
	$(BIN)/python -m weir.infra.servers.lock

# Everything that can be made again. The data in .weir is not.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
