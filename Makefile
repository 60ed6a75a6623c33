# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= build/b0
KILLS ?= 30
# A file's tests share what they build; files with long tests begin (tests/conftest.py).
ALL_CORES := -q -n auto --dist loadfile --no-loadscope-reorder
# For the loop of work: rooms and files whose tests need no bundle, or a small one now and then.
QUICK := $(addprefix tests/,files machines results graph network kernels records report method/budget method/latency \
	compiler/test_calls.py compiler/test_blocks.py compiler/test_kernel_calls.py schedules/test_texts.py \
	tuning/test_tuner.py measure/test_lanes.py cli/test_compare_command.py) \
	$(addprefix --ignore=tests/,graph/test_parity.py graph/test_onnx_write.py graph/test_onnx_zoo.py)
# Tests start hundreds of processes: let none of them compile the package's Python again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick install lint types all unit slow arm browser postgres wheel fuzz fuzz-python fuzz-native kill clean

demo: install  ## compile EfficientNet-B0 for this CPU, verify it against PyTorch, time it beside its peers
	$(BIN)/effgen compile --phi 0 --target cpu -o $(DEMO) --force
	$(BIN)/effgen verify $(DEMO)
	$(BIN)/effgen bench $(DEMO) --peers onnxruntime

test: lint types all  ## everything that must be green

# It leaves out types, the commands, schedules beyond one text each, compiling, measuring, training, searches, bundles and
# what runs them, and the models of torchvision and timm.
quick: lint  ## under two minutes: what needs no bundle
	$(BIN)/python -m pytest $(ALL_CORES) $(QUICK)

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

all: install  ## every test that needs no GPU, in one session: each test below
	$(BIN)/python -m pytest $(ALL_CORES) -m 'not cuda'

unit: install  ## those without a mark
	$(BIN)/python -m pytest $(ALL_CORES)

slow: install  ## B0..B4 compiled and verified, and the other long ones
	$(BIN)/python -m pytest $(ALL_CORES) -m 'slow and not wheel and not arm and not browser and not postgres'

arm: install  ## bundles for aarch64, verified under qemu
	$(BIN)/python -m pytest -q -m arm

browser: install  ## the report of `effgen compare` in headless Chromium
	$(BIN)/python -m pytest -q -m browser

postgres: install  ## two workers on one PostgreSQL server share a search
	$(BIN)/python -m pytest -q -m postgres

kill: install  ## kill -9 compile, tune, fit, searches, pack and compare, 30 times each, and count what that did
	$(BIN)/python benchmarks/kills.py --kills $(KILLS)

wheel: install  ## build the wheel, install it in a clean environment outside the checkout, compile with it
	$(BIN)/python -m pytest -q -m wheel

fuzz: fuzz-python fuzz-native  ## each reader and each entry point fed with wrong inputs, FUZZ_SECONDS (60) each: one target a language

fuzz-python: install  ## atheris, FUZZ_SECONDS (60) for each reader in Python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[fuzz]'
	PYTHON=$(BIN)/python sh fuzz/python.sh

fuzz-native: install  ## libFuzzer, FUZZ_SECONDS (60) for each reader of effgen-run and for the C library's functions
	$(BIN)/python fuzz/native/harnesses.py --seconds $${FUZZ_SECONDS:-60}

clean:
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
