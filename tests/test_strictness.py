"""Warnings that are ours fail tests; what plugins and the machine warn of does not, nor crash the run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PLUGIN = """
import warnings, pytest

def warn(where):
    warnings.warn(f"foreign, {where}", DeprecationWarning)

warn("import")

def pytest_configure(): warn("configure")
def pytest_sessionstart(): warn("session start")
def pytest_collection_modifyitems(): warn("collection")
def pytest_runtest_setup(): warn("set-up")
def pytest_runtest_call(): warn("call")
def pytest_runtest_teardown(): warn("teardown")
def pytest_sessionfinish(): warn("session finish")
def pytest_terminal_summary(): warn("summary")

@pytest.fixture(autouse=True)
def noisy():
    warn("fixture")
    yield
    warn("end of fixture")
"""
LIBRARY = """
import threading, warnings

def deprecated(level):
    warnings.warn("renamed", FutureWarning, stacklevel=level)

def old_driver():
    warnings.warn("The driver is old")

class Fragile:
    def __del__(self):
        raise ValueError("foreign")

def leak():
    file = open(__file__)
    cycle = [file]
    cycle.append(cycle)

def die():
    raise ValueError("foreign")

def thread():
    worker = threading.Thread(target=die)
    worker.start()
    worker.join()
"""
PRODUCT = """
import warnings, library

def warn():
    warnings.warn("ours")

def use(level):
    library.deprecated(level)
"""
TESTS = """
import gc, threading, warnings
import library, pytest
from sdssl_bench import product

class Fragile:
    def __del__(self):
        raise ValueError("ours")

def die():
    raise ValueError("ours")

def test_fails_of_a_warning_of_the_product(): product.warn()
def test_fails_of_a_warning_of_the_test(): warnings.warn("ours")
def test_fails_of_a_deprecation_that_the_library_attributes_to_itself(): product.use(1)
def test_fails_of_a_deprecation_that_the_library_attributes_to_its_caller(): product.use(2)
def test_fails_of_an_error_in_our_destructor(): Fragile()
def test_fails_of_a_file_left_open(): open(__file__)
def test_fails_of_an_error_in_our_thread():
    worker = threading.Thread(target=die)
    worker.start()
    worker.join()

def test_passes_with_the_noise_of_the_plugin(): pass
def test_passes_with_a_warning_about_the_machine(): library.old_driver()
def test_passes_with_a_library_that_warns_when_it_is_imported(): import deprecated_dependency
def test_passes_with_an_error_in_a_foreign_destructor(): library.Fragile()
def test_passes_with_an_error_in_a_foreign_thread(): library.thread()
def test_passes_with_garbage_that_may_be_anybodys():
    library.leak()
    gc.collect()
def test_passes_where_the_warning_is_expected():
    with pytest.warns(UserWarning, match="ours"):
        product.warn()
"""


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param([], id="one process"),
        pytest.param(["-n", "2"], id="xdist", marks=pytest.mark.slow),
    ],
)
def test_the_suites_strictness_binds_the_suite_and_nobody_else(
    workers: list[str], tmp_path: Path
) -> None:
    suite, site = tmp_path / "suite", tmp_path / "site"
    files = {
        site / "noisy_plugin.py": PLUGIN,
        site / "library.py": LIBRARY,
        site / "deprecated_dependency.py": "import warnings\nwarnings.warn('old', FutureWarning)\n",
        suite / "sdssl_bench" / "__init__.py": "",
        suite / "sdssl_bench" / "product.py": PRODUCT,
        suite / "tests" / "test_cases.py": TESTS,
        suite / "tests" / "test_module.py": "import warnings\nwarnings.warn('ours')\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, suite / name)
    command = [sys.executable, "-m", "pytest", "-p", "noisy_plugin", "-rA", *workers]
    done = subprocess.run(
        [*command, "--continue-on-collection-errors"],
        cwd=suite, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True,
    )  # fmt: skip
    assert "INTERNALERROR" not in done.stdout + done.stderr
    lines = re.findall(r"^(PASSED|FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    outcomes = {name: outcome for outcome, name in lines}
    expected = {
        f"test_cases.py::{name}": "PASSED" if name.startswith("test_passes") else "FAILED"
        for name in re.findall(r"def (test_\w+)", TESTS)
    }
    assert outcomes == {**expected, "test_module.py": "ERROR"}, done.stdout
