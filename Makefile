# CI and developers call the same targets. PYTHON is the interpreter of the environment to use.
PYTHON ?= python
TYPECHECK := build/typecheck

.PHONY: install lint types test test-all wheel docs check-results leaderboard gpu

install:
	$(PYTHON) -m pip install -e ".[dev]"

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# On an installed copy: in the checkout mypy does not see tasks/ and pretrain/ inside the package.
# From nothing: build/lib keeps modules that were deleted since, and pip would install them.
types:
	rm -rf build
	$(PYTHON) -m pip install --quiet --no-deps --target $(TYPECHECK) .
	cd $(TYPECHECK) && $(PYTHON) -m mypy --config-file ../../pyproject.toml -p sdssl_bench

test:
	$(PYTHON) -m pytest

test-all:
	$(PYTHON) -m pytest -m "not gpu"

wheel:
	$(PYTHON) -m build --wheel

docs:
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

check-results:
	$(PYTHON) results/check.py

# The study's records, and the submissions that somebody has verified.
leaderboard:
	verified=$$($(PYTHON) results/check.py --verified) && \
		$(PYTHON) -m sdssl_bench leaderboard results/study $$verified \
		--csv results/leaderboard.csv --markdown results/leaderboard.md

# Proof and speeds on a GPU, from the checkout as it is; on a CPU: make gpu DEVICE=cpu SIZE=toy.
# DATA_ROOT holds CIFAR-10 for the pair that is trained; the same command goes on with it.
DEVICE ?= cuda
SIZE ?= full
MINUTES ?= 20
gpu:
	$(PYTHON) benchmarks/gpu --device $(DEVICE) --size $(SIZE) --minutes $(MINUTES) \
		$(if $(DATA_ROOT),--data-root $(DATA_ROOT)) $(GPU_OPTIONS)
