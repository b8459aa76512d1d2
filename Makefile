# Every target but `lock` uses the environment in .venv, which the first of them makes (the only step that downloads).
#   make PYTHON=python3.12 ...    another interpreter than python3 (3.11 to 3.13) for that environment
#   make WORKERS=4 ...            notebooks and runs at a time; without it, one per core
#   make PORT=8080 book-serve     another port than 8000
#   make PHOTOGRAPHS=my_data PHOTOGRAPHS_FLAGS="--weights" reproduce-photographs
#                                 another folder than PETL_DATA or runs/photographs; options of petl_make photographs

PYTHON  ?= python3
WORKERS ?=
PROFILE ?= quick
PORT    ?= 8000

VENV := .venv
PY   := $(VENV)/bin/python
FRESH = runs/results-$(PROFILE)
PHOTOGRAPHS := $(if $(PETL_DATA),$(PETL_DATA),runs/photographs)
PHOTOGRAPHS_FLAGS ?=
ON_PHOTOGRAPHS := 03 05 08 09 10 # the chapters that need no parts of the study but those that this profile has
SMOKE := runs/results-smoke
WORKERS_FLAG := $(if $(WORKERS),--workers $(WORKERS))
LOCKED := --extra notebooks --extra export --extra clip --extra ray --extra dev
DATA_PY := .venv-data/bin/python
DATA_NEEDS := import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	some = [r for r in p["dependencies"] if r.startswith(("numpy", "pillow", "scipy"))]; \
	print(*some, *p["optional-dependencies"]["data"], "pytest", sep="\n")
DATA_PATHS := import pathlib, sys, sysconfig; \
	pathlib.Path(sysconfig.get_path("purelib"), "petl.pth").write_text("\n".join(sys.argv[1:]) + "\n")

.DEFAULT_GOAL := help
.PHONY: help install reproduce reproduce-photographs notebooks test test-exhaustive data-env test-data lint book book-serve book-print bench bench-gpu lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-28s %s\n", $$1, $$2 }'

install: $(VENV)/.ready ## make .venv with the locked packages (the first of the other targets does it too)

$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"$(PYTHON) is Python {v[0]}.{v[1]}; this project needs 3.11, 3.12 or 3.13: make PYTHON=python3.12 ...")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing the packages of requirements.txt into $(VENV); on Linux about 7 GB, some minutes"
	$(PY) -m pip install -qq -r requirements.txt
	$(PY) -m pip install -qq --no-deps --no-build-isolation --no-index -e .
	@touch $@

# Says which step begins and, for the quick profile, how long all the rest takes on two cores: quiet, and beside other work.
step = @echo "step $(1) of 4: $(2)$(if $(filter quick,$(PROFILE)),; from here $(3) minutes on two cores)"

reproduce: $(VENV)/.ready ## recompute the study at PROFILE=quick and its notebooks, compare with the shipped records, build the book
	$(call step,1,the study,15 to 35)
	$(PY) -m petl_core study --profile $(PROFILE) --results $(FRESH) $(WORKERS_FLAG)
	$(call step,2,the notebooks,4 to 12)
	$(PY) -m petl_guide notebooks execute --profile $(PROFILE) --results fresh --runs $(FRESH) --out runs/notebooks/$(PROFILE) $(WORKERS_FLAG)
	$(call step,3,the book,1 to 4)
	$(PY) -m book.build --chapters runs/notebooks/$(PROFILE) --profile $(PROFILE) --runs $(FRESH) --out runs/book-$(PROFILE)
	$(call step,4,comparing with the shipped records,1 to 2)
	@echo "notebooks: runs/notebooks/$(PROFILE)   book: runs/book-$(PROFILE)/index.html   records: $(FRESH)"
	$(PY) -m petl_guide claims --profile $(PROFILE) --results $(FRESH) --compare data/results
	$(PY) -m petl_core study --profile $(PROFILE) --results $(FRESH) --compare data/results

reproduce-photographs: PROFILE := photographs
reproduce-photographs: export PETL_DATA := $(abspath $(PHOTOGRAPHS))
reproduce-photographs: $(VENV)/.ready ## fetch ten sets of photographs and PACS (1.4 GB), recompute the study on them (half a day), chapters, compare
	$(call step,1,the photographs)
	$(PY) -m petl_make photographs --out $(PHOTOGRAPHS) $(PHOTOGRAPHS_FLAGS)
	$(call step,2,the study)
	$(PY) -m petl_core study --profile $(PROFILE) --results $(FRESH) $(WORKERS_FLAG)
	$(call step,3,the notebooks)
	$(PY) -m petl_guide notebooks execute --profile $(PROFILE) --results fresh --runs $(FRESH) --out runs/notebooks/$(PROFILE) --only $(ON_PHOTOGRAPHS) $(WORKERS_FLAG)
	$(call step,4,the claims and comparing with the shipped records)
	$(PY) -m petl_guide claims --profile $(PROFILE) --results $(FRESH)
	@if test -d data/results/$(PROFILE); then \
		$(PY) -m petl_guide claims --profile $(PROFILE) --results $(FRESH) --compare data/results/$(PROFILE) && \
		$(PY) -m petl_core study --profile $(PROFILE) --results $(FRESH) --compare data/results/$(PROFILE); \
	else echo "this checkout has no data/results/$(PROFILE): there are no shipped records of this profile to compare with"; fi

notebooks: $(VENV)/.ready ## execute the notebooks at the laptop profile on the shipped records and write them back, with the README's numbers (authors)
	$(PY) -m petl_guide notebooks refresh $(WORKERS_FLAG)
	$(PY) -m book.front

test: $(VENV)/.ready ## all tests, then every notebook cell by cell at PROFILE=smoke
	$(PY) -m petl_guide notebooks check
	$(PY) -m pytest
	rm -rf $(SMOKE)
	PETL_PROFILE=smoke PETL_RESULTS=fresh PETL_RUNS=$(CURDIR)/$(SMOKE) OMP_NUM_THREADS=1 \
		$(PY) -m pytest -q --durations=5 -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout 600 notebooks/*.ipynb

test-exhaustive: $(VENV)/.ready ## every ViT name of timm against timm, and all kinds compiled: about ten minutes
	$(PY) -m pytest -m exhaustive

data-env: .venv-data/.ready ## make .venv-data, in which `python -m petl_make vtab` runs, with TensorFlow and without torch

test-data: .venv-data/.ready ## test the preparation of VTAB-1K in .venv-data, about two minutes
	$(DATA_PY) -m pytest -q tests/make/data_extra tests/make/test_vtab_tasks.py tests/make/test_vtab_prepare.py tests/core/data/test_array_pack.py

.venv-data/.ready: pyproject.toml
	test -x $(DATA_PY) || $(PYTHON) -m venv .venv-data
	@echo "installing TensorFlow and tensorflow-datasets into .venv-data; about 2.3 GB, some minutes"
	@$(DATA_PY) -c '$(DATA_NEEDS)' > .venv-data/requirements.txt
	$(DATA_PY) -m pip install -qq -r .venv-data/requirements.txt
	@$(DATA_PY) -c '$(DATA_PATHS)' "$(CURDIR)" "$(CURDIR)/data"
	@touch $@

lint: $(VENV)/.ready ## ruff (rules and layout), mypy, and which room may import which
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

book: $(VENV)/.ready ## build the book from the committed notebooks into runs/book, for reading without a network; a warning is an error
	$(PY) -m book.build --out runs/book
	@echo "open runs/book/index.html, or: make book-serve"

book-serve: $(VENV)/.ready ## show the book in runs/book on this machine alone, at http://127.0.0.1:PORT (8000); build it if it is missing
	@test -f runs/book/index.html || $(MAKE) --no-print-directory book
	@echo "http://127.0.0.1:$(PORT)   (Ctrl-C ends it)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory runs/book

book-print: $(VENV)/.ready ## the book as one page and, with a Chromium, as a PDF, in runs/book-print
	$(PY) -m book.build --print --out runs/book-print

bench: $(VENV)/.ready ## speed and size, ours beside HF peft and a bare timm loop
	$(PY) tests/benchmarks/bench_steps.py
	$(PY) tests/benchmarks/bench_analyses.py

bench-gpu: $(VENV)/.ready ## speed of the trainer on this machine's GPU: images/s, memory, share of the peak, a plain loop beside it
	$(PY) tests/benchmarks/bench_gpu.py

lock: ## make requirements.txt anew from the ranges in pyproject.toml (needs the network)
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m uv pip compile pyproject.toml $(LOCKED) --universal --python-version 3.11 \
		--fork-strategy fewest --no-annotate --upgrade --quiet --output-file requirements.txt

clean: ## remove what the other targets made, .venv and .venv-data excepted
	rm -rf runs/results-* runs/notebooks runs/book* .mypy_cache .ruff_cache .pytest_cache
	find petl_core tests notebooks data/petl_make book -name __pycache__ -type d -prune -exec rm -rf {} +
