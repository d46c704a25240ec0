# Everything a checkout needs: python3 with venv and pip, git, apt and make; as root or not, nothing is installed
# outside this directory.
#
#   make test      what CI runs: style, types, and every test, with the independent peer and a real broker
#   make demo      one meter updated, from an MQTT command to the version that the meter reports
#   make coverage  the tests once more, with branch coverage
#   make format    put the code in order
#   make clean     remove what was made here

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DELETE_ON_ERROR:
.PHONY: test demo coverage format clean venv

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
