"""Whatever is typed or lies in a file: an exit code of the documented ones, a message, no traceback.

Every command meets every kind of wrong value in its options and arguments; `run` meets more.
"""

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from example_results import results
from mini_data import shared_mini
from sdssl_bench.cli.main import app

CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"
CODES = (0, 1, 2, 3)
LONGEST_OUTPUT = 20_000
VALUES = {
    "long": "x" * 5_000,
    "deep": "/".join(["d"] * 3_000),
    "absent": "no/such/thing",
    "upwards": "../" * 40 + "etc/passwd",
    "negative": "-1",
    "huge": "9" * 5_000,
    "infinite": "inf",
    "script": "$(touch pwned); `touch pwned`",
    "markup": "[/red]%s{0}\\",
    "unicode": "漢²١\u202e",
    "surrogate": "\udcff",
    "newline": "a\nb\x1b[2J",
    "commas": ",,",
    "device": "/dev/null",
    "empty": "",
    "blank": " ",
}
"""Of the kinds that scripts, slips and unset variables make."""
USUAL = ("surrogate",)
WORKING = (("quickstart",), ("data", "mini"), ("pretrain",))
"""Commands that make any folder given their own; they have tests of their own, below and elsewhere."""


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    def walk(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, (*path, name))
            else:
                yield (*path, name), command

    yield from walk(typer.main.get_command(app), ())


COMMANDS = dict(commands())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def meet(arguments: list[str], *codes: int) -> str:
    """Run a command line; what it says."""
    result = CliRunner().invoke(app, arguments)
    shown = f"{[one[:60] for one in arguments]}: {result.exit_code} {result.output[-600:]}"
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        f"{shown} {result.exception!r}"
    )
    assert result.exit_code in (codes or CODES), shown
    assert "Traceback" not in result.output, shown
    assert len(result.output) < LONGEST_OUTPUT, shown
    assert result.output.strip() or result.exit_code == 0, shown
    return result.output


def lines(name: tuple[str, ...], value: str) -> Iterator[list[str]]:
    """The value in the place of an argument, and after every option that takes one."""
    if name not in WORKING:
        yield [*name, value]
        for param in COMMANDS[name].params:
            if param.param_type_name == "option" and not param.is_flag:
                yield [*name, max(param.opts, key=len), value]


RARE = [pytest.param(kind, marks=pytest.mark.slow) for kind in sorted(VALUES.keys() - set(USUAL))]


@pytest.mark.parametrize("kind", [*USUAL, *RARE])
def test_no_value_breaks_a_command(folder: Path, kind: str) -> None:
    for name in COMMANDS:
        for arguments in lines(name, VALUES[kind]):
            meet(arguments)
    assert not list(folder.rglob("pwned"))


def test_commands_that_make_their_data_refuse_what_is_no_folder(folder: Path) -> None:
    for name in ("data mini", "pretrain --preset x --out", "quickstart --out"):
        for kind in ("long", "device", "empty"):
            meet([*name.split(), VALUES[kind]], 1, 2, 3)


def run(*settings: str, task: str = "knn", dataset: str | None = "cifar10") -> list[str]:
    data = [] if dataset is None else ["-d", dataset]
    return [
        "run", "-t", task, *data, "-c", CKPT, "--data-root", str(shared_mini()), "-q", "-j", "0",
        "--out", "out", "--cache-dir", "cache", "--limit", "4", *settings,
    ]  # fmt: skip


RETRIEVAL: dict[str, Any] = {"task": "retrieval", "dataset": "roxford5k"}
WRONG = [
    run("--layers", "0"), run("--layers", "99"), run("--layers", "3-1"), run("--layers", "x"),
    run("--layers", "1-99999999999"), run("--layers", "9" * 5000), run("--layers", "1-" + "9" * 5000),
    run("--layers", "-1"), run("--layers", "1,,2"), run("--layers", "1", "--all-layers"),
    run("--img-size", "10000000"), run("--img-size", "-5"), run("--img-size", "0"),
    run("--img-size", "9" * 40), run("--patch-size", "0"), run("--heads", "0"), run("--heads", "-3"),
    run("-b", "0"), run("-b", "-1"), run("-b", "x"), run("-b", "²"), run("--limit", "0"),
    run("--limit", "-4"), run("--seed", "-1"), run("-j", "-1"), run("--dtype", "float8"),
    run("--bank-dtype", "int8"), run("--device", "cuda:99"), run("--device", "tpu"),
    run("--backend", "x"), run("--norm", "x"), run("--network", "nobody"), run("--arch", "x"),
    run("--overwrite", "yes"), run("--on-bad-image", "x"), run("--protocol", "x"),
    run("--set", "foo"), run("--set", "foo=1"), run("--set", "=1"), run("--set", "temperature=nan"),
    run("--set", "temperature=inf"), run("--set", "temperature=-1"), run("--set", "k=0"),
    run("--set", "k=-3"), run("--set", "k="), run("--set", "temperature=1", "--set", "temperature=2"),
    run("--imsize", "100"), run("--pool", "gem"), run("--against", CKPT), run(task="kn"),
    run(task="../../x"), run(task=","), run(dataset="cifar1O"),
    run(dataset=None), run("--scales", "1e9", **RETRIEVAL),
    run("--scales", "0,-1", **RETRIEVAL), run("--scales", "nan", **RETRIEVAL),
    run("--scales", "1e-9", **RETRIEVAL), run("--imsize", "-4", **RETRIEVAL),
    run("--imsize", "3", **RETRIEVAL), run("--imsize", "99999999", **RETRIEVAL),
    run("--imsize", "99999999", task="copydays", dataset=None), run("--pool", "x", **RETRIEVAL),
    run(task="cka"), run("--out", "/dev/null"), run("--out", "/proc/nothing"),
    run("--cache-dir", "/proc/nothing"), run("--out", "x" * 5000), run("--cache-dir", "x" * 5000),
    run("--strips", "/dev/null", task="davis", dataset=None), run("--unknown", "1"), run("surplus"),
]  # fmt: skip


def test_a_run_that_cannot_be_is_a_usage_error_at_once(folder: Path) -> None:
    for arguments in WRONG:
        meet(arguments, 2)
        assert not list(folder.rglob("*.npy")), f"nothing is computed: {arguments}"


MISSING = [
    run(dataset="folder:nope"), run(dataset="folder:"), run(dataset="folder:" + "x" * 5000),
    run("--data-root", "nope"),
    run("-c", "nope.pth"), run("-c", "x" * 5000), run("-c", "/dev/null"), run("-c", "."),
    run("--distractors", "nope", task="copydays", dataset=None), ["leaderboard", "nope"],
    run("--whitening", "nope", task="copydays", dataset=None), ["report", "nope"],
    run("--against", "nope.pth", task="cka"), ["explain", "nope", "nope"], ["multi-exit", "nope"],
    ["watch", "nope"], ["data", "check", "cifar10", "--data-root", "nope"], ["doctor", "nope"],
    ["data", "convert-gnd", "nope.pkl"], ["score", "knn", "a.npz", "b.npz"],
    ["score", "davis", "nope", "nope"], ["data", "copydays", "nope", "out"],
]  # fmt: skip


def test_what_is_not_there_is_missing_data(folder: Path) -> None:
    for arguments in MISSING:
        meet(arguments, 2, 3)


class Evil:
    """Code in a pickle."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def damaged(good: bytes) -> dict[str, bytes]:
    """What becomes of files on the way."""
    flipped = bytearray(good)
    for at in range(0, len(good), max(1, len(good) // 7)):
        flipped[at] ^= 0xFF
    return {
        "empty": b"",
        "half": good[: len(good) // 2],
        "head": good[:20],
        "flipped": bytes(flipped),
        "doubled": good + good,
        "zeros": bytes(len(good)),
        "random": np.random.default_rng(0).bytes(500),
        "html": b"<!DOCTYPE html><title>404</title>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "code": pickle.dumps(Evil()),
        "deep": b"[" * 100_000,
    }


KINDS = sorted(damaged(b"0123456789" * 10))


@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_file_breaks_a_reader_or_runs_code(folder: Path, kind: str) -> None:
    import torch

    torch.save({"model": torch.nn.Linear(4, 4).state_dict()}, folder / "good.pth")
    np.savez(folder / "good.npz", features=np.eye(6, dtype=np.float32), labels=np.arange(6))
    (folder / "good.json").write_text(json.dumps({"imlist": ["a"], "qimlist": ["b"], "gnd": []}))
    for file in ("good.pth", "good.npz", "good.json"):
        name = f"bad.{file[5:]}"
        Path(name).write_bytes(damaged(Path(file).read_bytes())[kind])
        for arguments in (
            ["doctor", name],
            run("-c", name),
            ["score", "knn", name, "good.npz"],
            ["score", "knn", "good.npz", name],
            ["score", "copydays", name],
            ["score", "retrieval", name, "--gnd", "good.json"],
            ["score", "retrieval", "good.npz", "--gnd", name],
            ["data", "convert-gnd", name, "out.json"],
            ["explain", name, name],
            ["multi-exit", name],
            ["compare", name, name],
        ):
            if kind == "deep" and arguments[0] in ("explain", "multi-exit", "compare"):
                continue  # the reader of records has tests of its own
            if kind == "doubled" and "multi-exit" not in arguments:
                meet(arguments)
            else:
                meet(arguments, 1, 2, 3)
    assert not list(folder.rglob("pwned"))


CHARSETS = ("ascii", "latin-1", "utf-8")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("results") / "results")


def shows(stored: Path) -> dict[str, list[str]]:
    """A command line of every command, with what it prints when all is well, or its help."""
    record = str(next((stored / "runs" / "dino").glob("knn-*.json")))
    paths = sorted(map(str, (stored / "runs").glob("*vit_s16/knn-*.json")))
    features = ["good.npz", "good.npz", "--k", "1"]
    np.savez("good.npz", features=np.eye(6, dtype=np.float32), labels=np.arange(6))
    good: dict[str, list[str]] = {
        "ls": ["ls", "protocols"],
        "show": ["show", "cifar10"],
        "run": [*run("--all-layers")[:-3], "--all-layers"],
        "leaderboard": ["leaderboard", str(stored), "--wide"],
        "report": ["report", str(stored), "--out", "page"],
        "compare": ["compare", "mocov3_vit_s16", "sd_mocov3_vit_s16", "-r", str(stored)],
        "explain": ["explain", *paths],
        "multi-exit": ["multi-exit", record],
        "reproduce": ["reproduce", "--table", "1", "-r", str(stored)],
        "doctor": ["doctor", CKPT],
        "data check": ["data", "check", "cifar10", "--data-root", str(shared_mini())],
        "data layout": ["data", "layout", "cub"],
        "cache ls": ["cache", "ls", "--cache-dir", "cache"],
        "cache du": ["cache", "du", "--cache-dir", "cache"],
        "cache rm": ["cache", "rm", "--all", "--cache-dir", "cache"],
        "pretrain": ["pretrain"],
        "score knn": ["score", "knn", *features],
    }
    return {" ".join(name): good.get(" ".join(name), [*name, "--help"]) for name in COMMANDS} | {
        "help": ["--help"],
        "wrong": ["lss"],
        "run missing": run("-c", "nö…pe.pth"),
    }


@pytest.mark.parametrize("charset", CHARSETS)
def test_every_command_speaks_every_charset(folder: Path, stored: Path, charset: str) -> None:
    for name, arguments in shows(stored).items():
        result = CliRunner(charset=charset).invoke(app, arguments)
        said = result.stdout_bytes + result.stderr_bytes
        expected = {"wrong": 2, "run missing": 3}.get(name, 0)
        assert result.exit_code == expected, (name, said[-500:], result.exception)
        text = said.decode(charset)
        assert text.strip(), name
        if charset == "ascii":
            assert text.count("?") < 12, text
