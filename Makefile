# make run       set up and do the main job: a short study on the embedded corpus, on any machine
# make finish    measure the result of that study on the sealed test split (3 minutes)
# make lab       set up and open JupyterLab here
# make gpu-check measure a GPU in at most 8 minutes and write gpu-check.json, to post; DEVICE=cpu tries all of it in small
# make test      set up, with what the tests need, and run them
# make faults    inject every fault at every durable operation of a short study, kill a real one 50 times, and try 10,000
#                generated inputs of each reader (half an hour)
# make pictures  the screenshots of the README, from real runs in a real JupyterLab (5 minutes; needs Chromium)
# make share-example  make a bundle of the recorded night of docs/nights: its page is build/optimiser/index.html
# make setup     only the set-up: .venv with exact versions and the Jupyter kernel
# make lock      resolve pyproject.toml into constraints.txt; `make lock UPGRADE=1` takes the newest versions
#
# Another Python: make run PYTHON=/path/to/python3.12. Another build of torch: make run TORCH=cpu or TORCH=cuda.

PYTHON ?= python3
NAME = first
EXPERIMENTS = 5
BUDGET = 20
START = $(if $(filter first,$(NAME)),plain,tuned)
EXTRAS =
DEVICE =
TORCH ?=
UPGRADE =

# A Python that is named by hand is worth a word when .venv has another one.
NAMED = $(if $(filter file,$(origin PYTHON)),,--python-was-named)
SET_UP = $(PYTHON) scripts/set_up.py $(if $(TORCH),--torch $(TORCH)) $(NAMED)

IN_VENV = .venv/bin/python -m
AUTORESEARCH = $(IN_VENV) autoresearch_kernel.cli

.PHONY: run finish test faults lab gpu-check pictures share-example setup setup-test lock
.DEFAULT_GOAL := run

# A study that is there goes on with the budget and the start that it began with, unless they are given by hand.
IS_NEW = $(if $(wildcard studies/$(NAME)/study.json),,yes)
BUDGET_OPTION = $(if $(IS_NEW)$(filter-out file,$(origin BUDGET)),--budget $(BUDGET))
START_OPTION = $(if $(IS_NEW)$(filter-out file,$(origin START)),--start $(START))

run: setup
	@$(AUTORESEARCH) run --name "$(NAME)" --experiments $(EXPERIMENTS) $(BUDGET_OPTION) $(START_OPTION)

finish: setup
	@$(AUTORESEARCH) finish --name "$(NAME)"

lab: setup
	@$(AUTORESEARCH) lab

gpu-check: setup
	@$(AUTORESEARCH) gpu-check $(if $(DEVICE),--device $(DEVICE))

# Three workers fill two cores, as many tests wait; threads that wait leave the cores to the other workers.
test: setup-test
	OMP_WAIT_POLICY=passive $(IN_VENV) pytest -n 3 --dist loadfile --no-loadscope-reorder

faults: setup-test
	$(IN_VENV) tests.faults
	AUTORESEARCH_FUZZ_EXAMPLES=10000 $(IN_VENV) pytest -n 2 -m fuzz

pictures: setup-test
	$(IN_VENV) tests.journeys.pictures

share-example: setup
	@rm -rf build/nights build/optimiser && mkdir -p build/nights
	@$(IN_VENV) zipfile -e docs/nights/optimiser.zip build/nights
	@$(IN_VENV) autoresearch_kernel.cli share build/nights/optimiser --out build/optimiser.zip --yes
	@$(IN_VENV) zipfile -e build/optimiser.zip build
	@echo "Open build/optimiser/index.html in a browser."

setup:
	@$(SET_UP) $(EXTRAS)

setup-test:
	@$(SET_UP) test $(EXTRAS)

# One resolution for every Python from the lowest that pyproject.toml names, and every system: differences are markers.
lock: setup-test
	$(IN_VENV) uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --all-extras \
	  --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
	  --output-file constraints.txt pyproject.toml
