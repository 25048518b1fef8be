# Every command of the project. `make train` and `make test` set up what they need by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CORPORA := ravdess cremad emodb nemo librispeech-clean-100 librispeech-clean-360 librispeech-other-500 \
	librispeech-dev-clean librispeech-dev-other librispeech-test-clean librispeech-test-other
ON_APPLICATION := iemocap msp_improv msp_podcast voxceleb1 voxceleb2
STUDIES := $(sort $(filter-out systems,$(notdir $(basename $(wildcard experiments/studies/*.yaml)))))
SWEEPS := $(sort $(notdir $(basename $(wildcard experiments/sweeps/*.yaml))))
EXPERIMENTS := $(sort $(filter-out base,$(notdir $(basename $(wildcard experiments/*.yaml)))))

SUBMITTED := EXP STUDY SWEEP TIME NODES GPUS TASKS CPUS LEAD AT_ONCE AGENTS COUNT

# ARGS goes to the command as it is written: no globbing (-f) and no brace expansion (+B), so that values such as
# data.auxiliary=[] survive. Quotes inside ARGS hold words together.
SHELL := bash
.SHELLFLAGS := -f +B -c
.DELETE_ON_ERROR:
ARGUMENTS = $(value ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup train resume manifest evaluate predict app novelty compare export study report sweep submit data pack bench test \
	test-bench test-cluster chaos fuzz lint format clean

# Missing variables are told before anything is installed.
ifneq ($(filter train manifest pack,$(MAKECMDGOALS)),)
ifeq ($(strip $(EXP)),)
$(error EXP is missing: give EXP=<experiment>, one of: $(EXPERIMENTS))
endif
endif
ifneq ($(filter resume evaluate predict app novelty export,$(MAKECMDGOALS)),)
ifeq ($(strip $(RUN)),)
$(error RUN is missing: give RUN=<run folder>, the last line that `make train` printed)
endif
endif
ifneq ($(filter predict,$(MAKECMDGOALS)),)
ifeq ($(strip $(AUDIO)),)
$(error AUDIO is missing: give AUDIO=<an audio file, a folder of them, or a table with a column file>)
endif
ifeq ($(strip $(OUT)),)
$(error OUT is missing: give OUT=<the table to write: .csv, .jsonl or .parquet>)
endif
endif
ifneq ($(filter compare,$(MAKECMDGOALS)),)
ifeq ($(strip $(RUNS)),)
$(error RUNS is missing: give RUNS="<run folder> <run folder> …")
endif
endif
ifneq ($(filter study report,$(MAKECMDGOALS)),)
ifeq ($(strip $(STUDY)),)
$(error STUDY is missing: give STUDY=<study>, one of: $(STUDIES))
endif
endif
ifneq ($(filter submit,$(MAKECMDGOALS)),)
ifeq ($(strip $(EXP)$(STUDY)$(SWEEP)),)
$(error EXP, STUDY or SWEEP is missing: give EXP=<experiment>, one of: $(EXPERIMENTS); or STUDY=<study>, one of: $(STUDIES); or SWEEP=<sweep>)
endif
ifeq ($(strip $(TIME)),)
$(error TIME is missing: give TIME=<time limit of each job>, such as TIME=4:00:00 for four hours)
endif
endif
ifneq ($(filter sweep,$(MAKECMDGOALS)),)
ifeq ($(strip $(SWEEP)),)
$(error SWEEP is missing: give SWEEP=<sweep>, one of: $(SWEEPS))
endif
endif
ifneq ($(filter data,$(MAKECMDGOALS)),)
ifeq ($(strip $(CORPUS)),)
$(error CORPUS is missing: give CORPUS=<corpus>, one of: $(CORPORA); on application only: $(ON_APPLICATION))
endif
endif

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv from pyproject.toml and constraints.txt (the other commands do it by themselves)

train: $(READY) ## train, develop and test: EXP=<experiment> [RESUME=auto] [ARGS="a.b=c d=e"]
	@$(BIN)/python -m experiments train "$(EXP)" $(if $(RESUME),resume="$(RESUME)") $(ARGUMENTS)

resume: $(READY) ## go on with an interrupted run: RUN=<run folder>
	@$(BIN)/python -m experiments resume "$(RUN)" $(ARGUMENTS)

manifest: $(READY) ## read and check an experiment's corpora, without training: EXP=<experiment> [ARGS=…]
	@$(BIN)/python -m experiments manifest "$(EXP)" $(ARGUMENTS)

evaluate: $(READY) ## score a run's best checkpoint again: RUN=<run folder> [ARGS=…]
	@$(BIN)/python -m experiments evaluate "$(RUN)" $(ARGUMENTS)

predict: $(READY) ## apply a run's model to recordings: RUN=<run folder> AUDIO=<file, folder or table> OUT=<csv, jsonl, parquet> [ARGS=…]
	@$(BIN)/python -m experiments predict "$(RUN)" audio="$(AUDIO)" out="$(OUT)" $(ARGUMENTS)

app: $(READY) ## try a model on speech that is recorded or uploaded, on a page of this machine: RUN=<run folder> [ARGS="port=7860"]
	@$(BIN)/python -m experiments app "$(RUN)" $(ARGUMENTS)

novelty: $(READY) ## let a run that was made without tell how far speech is from its training: RUN=<run folder> [ARGS=…]
	@$(BIN)/python -m experiments novelty "$(RUN)" $(ARGUMENTS)

compare: $(READY) ## tell what of runs is the same, and how far apart the rest is: RUNS="<run folder> <run folder> …"
	@$(BIN)/python -m experiments compare $(RUNS) $(ARGUMENTS)

export: $(READY) ## share a run's model: weights, ONNX graph, model card: RUN=<run folder> [OUT=<folder>]
	@$(BIN)/python -m experiments export "$(RUN)" $(if $(OUT),out="$(OUT)") $(ARGUMENTS)

study: $(READY) ## make the runs of a study that are missing, and its tables: STUDY=<study> [JOBS=<at once>] [ARGS=…]
	@$(BIN)/python -m experiments.study run "$(STUDY)" $(if $(JOBS),jobs="$(JOBS)") $(ARGUMENTS)

report: $(READY) ## write the report of a study from what has been run: STUDY=<study> [ARGS=…]
	@$(BIN)/python -m experiments.study report "$(STUDY)" $(ARGUMENTS)

sweep: $(READY) ## search for settings, by W&B or here with Optuna: SWEEP=<sweep> [COUNT=<trials>] [AGENTS=<at once>] [ARGS=…]
	@$(BIN)/python -m experiments.sweep run "$(SWEEP)" $(if $(COUNT),count="$(COUNT)") $(if $(AGENTS),agents="$(AGENTS)") $(ARGUMENTS)

submit: $(READY) ## queue on a SLURM cluster: EXP=…, STUDY=… or SWEEP=…, and TIME=<limit of a job> [GPUS= NODES= …] [ARGS=…]
	@$(BIN)/python -m experiments.submit $(foreach name,$(SUBMITTED),$(if $($(name)),$(name)="$($(name))")) $(ARGUMENTS)

data: $(READY) ## download a corpus from its owners: CORPUS=<corpus> [ARGS="data.root=<folder>"]
	@$(BIN)/python -m experiments data "$(CORPUS)" $(ARGUMENTS)

bench: $(READY) ## measure speed, start-up and memory beside counterparts: [ARGS="rows=<row>,<row> data.root=<folder>"]
	@$(BIN)/python -m experiments.bench $(ARGUMENTS)

pack: $(READY) ## pack an experiment's corpora into few large files: EXP=<experiment> ARGS="pack=<folder> …"
	@$(BIN)/python -m experiments pack "$(EXP)" $(ARGUMENTS)

test: $(READY) ## run the tests [ARGS="-k splits"]
	@$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal $(ARGUMENTS)

test-bench: $(READY) ## run the tests that start benchmarks, in small [ARGS="-k loop"]
	@$(BIN)/python -m pytest -m bench $(ARGUMENTS)

chaos: $(READY) ## kill trainings at random moments and see whether they go on as if nothing had been [ARGS="runs=50"]
	@$(BIN)/python -m tests.chaos $(ARGUMENTS)

fuzz: $(READY) ## hand broken files of all kinds to whatever reads them [ARGS="count=10000 kinds=audio,yaml time=<minutes>"]
	@$(BIN)/python -m tests.fuzz $(ARGUMENTS)

test-cluster: $(READY) ## submit to a real SLURM, which is started on this machine for it and ended [ARGS="-k study"]
	@$(BIN)/python -m pytest --verbose -m cluster $(ARGUMENTS) tests/cluster

lint: $(READY) ## check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and build leftovers (.venv, corpora and runs stay)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

# Written last: an interrupted set-up is done again. An environment without a working pip is made anew.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Python 3.11 or newer is needed, and "$(PYTHON)" is not one: give PYTHON=<path of a newer one>' >&2; exit 2; }
	@echo 'Setting up $(VENV): this takes a few minutes, once.' >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[app,audformat,baselines,demo,dev,export,sweeps]'
	@touch $@
