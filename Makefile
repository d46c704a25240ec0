# Everything a checkout needs: python3 with venv and pip, git, apt and make; as root or not, nothing is installed
# outside this directory.
#
#   make test      style, types, and every test, with the independent peer and a real broker
#   make test-debian12, make test-debian13
#                  every test once more, with the libraries of that Debian (tests/constraints)
#   make demo      one meter updated, from an MQTT command to the version that the meter reports
#   make coverage  the tests once more, with branch coverage
#   make simulate SEEDS=1000
#                  the whole gateway on virtual time with everything going wrong that can, from so many seeds;
#                  SEED=4711 plays one, and tells what happens in it
#   make bench     what it costs, one JSON object a line on stdout (12 to 15 minutes; benchmarks)
#   make endurance the figures that take long, in the same lines
#   make deb       the Debian package in dist/; installs what the build needs where it is run by root
#   make test-package
#                  install, update, kill, upgrade, reboot and purge it in containers of Debian 12 and 13, side by side;
#                  as root: installs debootstrap and systemd-container, keeps both releases in
#                  /var/cache/meter-gateway-test (1.2 GB), and says NOT TESTED where containers cannot be run
#   make test-page the status page of a running gateway in a real browser; as root: installs chromium, and says NOT TESTED
#                  where there is none; pictures in build/page
#   make test-package-arm64
#                  the same package installed and an update run on an emulated arm64; as root, a quarter of an hour
#   make docs      write the pages of docs/ that are made from the code
#   make format    put the code in order
#   make clean     remove what was made here

PYTHON ?= python3

# A network that is away for a moment ends no run; pip hands both on to the builds that it starts.
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60

# Tests that wait for real lines and brokers leave the cores to others.
SIDE_BY_SIDE ?= --numprocesses=6 --dist=loadscope

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DELETE_ON_ERROR:
.PHONY: test style test-newest test-debian test-debian12 test-debian13 demo coverage simulate bench endurance deb test-package test-package-arm64 test-page docs format clean venv

# The last thing it prints is pytest's closing line.
test: style test-newest

style: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test-newest: venv
	$(BIN)/python tests/support/broker.py
	$(BIN)/pytest $(SIDE_BY_SIDE)

# The libraries of each Debian that is supported, beside the newest ones of $(VENV). Those of Debian 12 run on its own
# Python only; those of Debian 13, whose own is 3.13, on 3.11 and 3.12 as well. Without a Python for it a set is left
# out of `test-debian` and `bench`.
runs = $(shell $(1) -c 'import ensurepip, venv' 2>/dev/null && command -v $(1))
PYTHON_debian12 := $(call runs,python3.11)
PYTHON_debian13 := $(firstword $(foreach python,python3.13 python3.12 python3.11,$(call runs,$(python))))
DEBIANS := $(if $(PYTHON_debian12),debian12) $(if $(PYTHON_debian13),debian13)
DEBIAN_VENVS := $(DEBIANS:%=build/%/.installed)

test-debian: $(DEBIANS:%=test-%)

test-debian12 test-debian13: test-%: build/%/.installed
	@echo "the libraries of $*, on $$(build/$*/bin/python --version):"
	build/$*/bin/python tests/support/broker.py
	build/$*/bin/pytest $(SIDE_BY_SIDE)

demo: venv
	broker="$$($(BIN)/python tests/support/broker.py)" && $(BIN)/meter-gateway demo --broker-binary "$$broker"

coverage: venv
	$(BIN)/python tests/support/broker.py
	$(BIN)/pytest --cov --cov-branch --cov-report=term-missing:skip-covered

SEEDS ?= 200
simulate: venv
	PYTHONPATH=tests $(BIN)/python -m support.seeds $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

# Only figures go to stdout.
bench:
	@$(MAKE) --no-print-directory venv $(DEBIAN_VENVS) >&2
	@$(BIN)/python tests/support/broker.py >&2
	@$(BIN)/python -m benchmarks $(foreach set,$(DEBIANS),--with $(set)=build/$(set)/bin/python)

endurance:
	@$(MAKE) --no-print-directory venv >&2
	@$(BIN)/python tests/support/broker.py >&2
	@$(BIN)/python -m benchmarks fuzz command_fuzz kill9 power_cuts store_writes resume many_meters seeds

deb:
	debian/tools/make_deb

test-package:
	tests/package/run

test-page: venv
	tests/page/run

test-package-arm64: venv
	$(BIN)/python tests/package/arm64.py

docs: venv
	$(BIN)/python -m docs.tools

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
	@test -n "$(PYTHON_$*)" || { echo "the libraries of $* need another Python than this machine has (Makefile)" >&2; exit 1; }
	rm -rf build/$*
	$(PYTHON_$*) -m venv build/$*
	build/$*/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< --editable '.[test,peer]'
	touch $@
