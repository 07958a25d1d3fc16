# make run    set up and do the main job: a short study on the embedded corpus, on any machine
# make finish measure the result of that study on the sealed test split (2 to 3 minutes)
# make test   set up and run the tests
# make faults inject every fault at every durable operation of a short study, and kill a real one 50 times (10 minutes)
# make pictures  the screenshots of the README, from real runs in a real JupyterLab (5 minutes; needs Chromium)
# make lab    set up and open JupyterLab here
# make setup  only the set-up: .venv with exact versions and the Jupyter kernel

PYTHON ?= python3
NAME ?= first
EXPERIMENTS ?= 5
BUDGET ?= 20

.PHONY: run finish test faults lab pictures setup
.DEFAULT_GOAL := run

run: setup
	.venv/bin/autoresearch run --name $(NAME) --experiments $(EXPERIMENTS) --budget $(BUDGET)

finish: setup
	.venv/bin/autoresearch finish --name $(NAME)

test: setup
	.venv/bin/python -m pytest -n 2 --dist loadfile

faults: setup
	.venv/bin/python -m tests.faults

pictures: setup
	.venv/bin/python -m tests.journeys.pictures

lab: setup
	.venv/bin/autoresearch lab

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "autoresearch needs Python 3.11 or newer, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	.venv/bin/autoresearch kernel install --sys-prefix
	touch .venv/installed
