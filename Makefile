# Each target works on a fresh machine: it makes the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= outputs/sweep
PARALLEL ?= -n 2 --dist worksteal

.PHONY: sweep test test-all test-lowest test-slurm lint bench torture docs clean

sweep: $(READY)  ## the main job on the embedded default
	$(BIN)/python -m gpsweep -m 'eps=range(-1,1,0.05)' label=argmax,random_onehot,uniform,top2 hydra.sweep.dir=$(OUT)

test: $(READY)  ## the default tests
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(READY)  ## the slow tests as well
	$(BIN)/python -m pytest $(PARALLEL) -m "not gpu and not slurm"

# Old libraries warn of each other, which is no fault here.
test-lowest:  ## the default tests on the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv .lowest
	sed -nE 's/^ +"([a-z0-9-]+)>=([0-9.]+)",$$/\1==\2.*/p' pyproject.toml >.lowest/constraints.txt
	.lowest/bin/python -m pip install --quiet --constraint .lowest/constraints.txt --editable '.[dev]'
	.lowest/bin/python -m pytest $(PARALLEL) -o filterwarnings=default

test-slurm: $(READY)  ## sweeps on a SLURM of their own; needs root and apt
	$(BIN)/python -m pytest -m slurm

lint: $(READY)  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## the speed table, stored as JSON
	$(BIN)/python -m benchmarks.run --out benchmarks/results/cpu.json

torture: $(READY)  ## kill, starve and damage real runs; the table goes into RELIABILITY.md
	$(BIN)/python -m benchmarks.faults --out RELIABILITY.md

# Names that a package lists in __all__ are all that pdoc shows of it.
RESULTS := $(patsubst gpsweep/results/%.py,gpsweep.results.%,$(filter-out %/__init__.py,$(wildcard gpsweep/results/*.py)))

docs: $(READY)  ## the API's pages in outputs/docs
	$(BIN)/python -m pdoc -d google gpsweep $(RESULTS) '!gpsweep.__main__' '!gpsweep.layers.__main__' '!gpsweep.report.__main__' '!gpsweep.store.__main__' '!gpsweep.tables.__main__' -o outputs/docs
	@echo "open outputs/docs/index.html"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("gpsweep needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:  ## remove what is made here; stored counts and other runs stay
	rm -rf $(VENV) .lowest outputs/sweep outputs/docs
