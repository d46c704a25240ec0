# Everything a checkout needs: python3 with venv and pip, git, apt and make; as root or not, nothing is installed
# outside this directory.
#
#   make test      what CI runs: style, types, and every test, with the independent peer and a real broker
#   make demo      one meter updated, from an MQTT command to the version that the meter reports
#   make coverage  the tests once more, with branch coverage
#   make bench     what it costs, one JSON object a line on stdout (a few minutes; benchmarks/__init__.py)
#   make endurance the figures that take long, in the same lines
#   make deb       the Debian package in dist/; installs what the build needs where it is run by root
#   make format    put the code in order
#   make clean     remove what was made here

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DELETE_ON_ERROR:
.PHONY: test demo coverage bench endurance deb format clean venv

# The last thing it prints is pytest's closing line.
test: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tests/support/broker.py
	$(BIN)/pytest

demo: venv
	broker="$$($(BIN)/python tests/support/broker.py)" && $(BIN)/meter-gateway demo --broker-binary "$$broker"

coverage: venv
	$(BIN)/python tests/support/broker.py
	$(BIN)/pytest --cov --cov-branch --cov-report=term-missing:skip-covered

# The libraries of each Debian that is supported, beside the newest ones of $(VENV).
DEBIANS := debian12 debian13
DEBIAN_VENVS := $(DEBIANS:%=build/%/.installed)

# Only figures go to stdout.
bench:
	@$(MAKE) --no-print-directory venv $(DEBIAN_VENVS) >&2
	@$(BIN)/python tests/support/broker.py >&2
	@$(BIN)/python -m benchmarks $(foreach set,$(DEBIANS),--with $(set)=build/$(set)/bin/python)

endurance:
	@$(MAKE) --no-print-directory venv >&2
	@$(BIN)/python -m benchmarks fuzz

deb:
	debian/tools/make_deb

format: venv
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(INSTALLED)

# Only when the project file has changed; an interrupted run leaves no stamp and is taken up again.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,peer]'
	touch $@

build/%/.installed: tests/constraints/%.txt pyproject.toml
	$(PYTHON) -m venv build/$*
	build/$*/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< --editable .
	touch $@
