# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= build/b0
# A file's tests share what they build.
ALL_CORES := -q -n auto --dist loadfile

.PHONY: demo test install lint types unit slow arm browser postgres wheel clean

demo: install  ## compile EfficientNet-B0 for this CPU, verify it against PyTorch, time it beside its peers
	$(BIN)/effgen compile --phi 0 --target cpu -o $(DEMO) --force
	$(BIN)/effgen verify $(DEMO)
	$(BIN)/effgen bench $(DEMO) --peers onnxruntime

test: lint types unit slow arm browser postgres wheel  ## everything that must be green

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt torchvision timm
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Neither mypy nor import-linter follows the mapping of schedules/ and targets/ into the package in an editable install:
# check the package as it is installed.
types: install
	rm -rf build/types build/lib
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/types .
	cd build/types && ../../$(BIN)/python -m mypy --config-file ../../pyproject.toml -p effgen
	cd build/types && ../../$(BIN)/lint-imports --no-logo ../../pyproject.toml

unit: install
	$(BIN)/python -m pytest $(ALL_CORES)

slow: install  ## B0..B4 compiled and verified, and the other long ones
	$(BIN)/python -m pytest $(ALL_CORES) -m 'slow and not wheel and not arm and not browser and not postgres'

arm: install  ## bundles for aarch64, verified under qemu
	$(BIN)/python -m pytest -q -m arm

browser: install  ## the report of `effgen compare` in headless Chromium
	$(BIN)/python -m pytest -q -m browser

postgres: install  ## two workers on one PostgreSQL server share a search
	$(BIN)/python -m pytest -q -m postgres

wheel: install  ## build the wheel, install it in a clean environment outside the checkout, compile with it
	$(BIN)/python -m pytest -q -m wheel

clean:
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
