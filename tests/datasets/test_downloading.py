"""`data download` from a server that drops connections, changes files and lies."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from mini_data import shared_mini
from sdssl_bench.cli.main import app
from sdssl_bench.datasets import catalogue, downloading, spec
from sdssl_bench.datasets.downloading import download
from sdssl_bench.datasets.specs.specification import MARKER, DatasetSpec
from sdssl_bench.errors import DataError
from sdssl_bench.system import Progress

QUIET = Progress(quiet=True)


@dataclass
class Files:
    """What the server has, and how it misbehaves.

    Attributes:
        cuts: bytes after which each connection in turn is dropped; none left is no cut.
        codes: statuses that requests in turn get instead of an answer.
        ranges: whether parts can be asked for.
        asked: (path, Range) of every request.
    """

    content: dict[str, bytes]
    cuts: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    ranges: bool = True
    tag: str = '"one"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers from `Files`, as large servers do."""

    files: Files

    def do_GET(self) -> None:
        files = self.files
        files.asked.append((self.path, self.headers["Range"]))
        body = files.content.get(self.path.partition("?")[0])
        if files.codes or body is None:
            self.send_error(files.codes.pop(0) if files.codes else 404)
            return
        start = 0
        fitting = self.headers["If-Range"] in (None, files.tag)
        if self.headers["Range"] and files.ranges and fitting:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", files.tag)
        self.end_headers()
        rest = body[start:]
        self.wfile.write(rest[: files.cuts.pop(0)] if files.cuts else rest)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(downloading, "_BLOCK_BYTES", 1000)


@pytest.fixture
def server() -> Iterator[Files]:
    files = Files({})
    handler = type("Bound", (Handler,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        files.url = f"http://127.0.0.1:{running.server_port}"
        yield files
        running.shutdown()
        thread.join()


def packed(folder: Path, inside: str, *, kind: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=kind) as archive:
        archive.add(folder, inside)
    return buffer.getvalue()


def entry_of(server: Files, body: bytes, *, md5: str | None = None) -> DatasetSpec:
    server.content["/set.tar.gz"] = body
    return replace(
        spec("cifar10"),
        archives={"set.tar.gz": hashlib.md5(body).hexdigest() if md5 is None else md5},
        downloads={f"{server.url}/set.tar.gz?download=1": ""},
    )


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    folder = tmp_path / "made"
    folder.mkdir()
    noise = np.random.default_rng(0).bytes(40_000)
    (folder / "file.bin").write_bytes(noise)
    return packed(folder, "inside")


def whole(root: Path) -> bool:
    return (root / "inside" / "file.bin").read_bytes() == np.random.default_rng(0).bytes(40_000)


def test_an_archive_is_fetched_proven_and_extracted(
    server: Files, body: bytes, tmp_path: Path
) -> None:
    (one,) = download(entry_of(server, body), tmp_path / "data", progress=QUIET)
    assert whole(tmp_path / "data")
    assert (one.file, one.bytes, one.verified) == ("set.tar.gz", len(body), True)
    assert one.sha256 == hashlib.sha256(body).hexdigest()
    assert not (tmp_path / "data" / ".downloads" / "cifar10").exists()


def test_dropped_connections_are_continued_where_they_ended(
    server: Files, body: bytes, tmp_path: Path
) -> None:
    server.cuts = [10_000, 5_000, 1]
    download(entry_of(server, body), tmp_path, progress=QUIET)
    assert whole(tmp_path)
    assert [one for _, one in server.asked] == [
        None, "bytes=10000-", "bytes=15000-", "bytes=15001-",
    ]  # fmt: skip


def test_a_command_that_was_killed_goes_on(server: Files, body: bytes, tmp_path: Path) -> None:
    server.cuts = [10_000] + [0] * downloading.PATIENCE
    entry = entry_of(server, body)
    with pytest.raises(
        DataError, match=r"connection ended early, 5 times in a row. 10,000 bytes are"
    ):
        download(entry, tmp_path, progress=QUIET)
    server.cuts.clear()
    server.asked.clear()
    download(entry, tmp_path, progress=QUIET)
    assert whole(tmp_path)
    assert [one for _, one in server.asked] == ["bytes=10000-"]


@pytest.mark.parametrize("how", ["another version", "no ranges"])
def test_a_part_of_something_else_is_never_continued(
    server: Files, body: bytes, tmp_path: Path, how: str
) -> None:
    server.cuts = [10_000] + [0] * downloading.PATIENCE
    entry = entry_of(server, b"?" * len(body))
    with pytest.raises(DataError, match="cannot be fetched"):
        download(entry, tmp_path, progress=QUIET)
    server.cuts.clear()
    if how == "another version":
        server.tag = '"two"'
    else:
        server.ranges = False
    download(entry_of(server, body), tmp_path, progress=QUIET)
    assert whole(tmp_path)


def test_a_wrong_digest_is_an_error_and_leaves_nothing(
    server: Files, body: bytes, tmp_path: Path
) -> None:
    entry = entry_of(server, body, md5="0" * 32)
    found = hashlib.md5(body).hexdigest()
    with pytest.raises(DataError, match=rf"expected md5 0+, found {found}.*it was removed"):
        download(entry, tmp_path, progress=QUIET)
    assert not (tmp_path / "inside").exists()
    assert not list((tmp_path / ".downloads" / "cifar10").glob("set*"))


def test_without_a_published_digest_that_is_said(
    server: Files, body: bytes, tmp_path: Path
) -> None:
    (one,) = download(entry_of(server, body, md5=""), tmp_path, progress=QUIET)
    assert not one.verified


def test_busy_servers_are_asked_again_and_refusals_are_not(
    server: Files, body: bytes, tmp_path: Path
) -> None:
    server.codes = [503, 429]
    download(entry_of(server, body), tmp_path / "a", progress=QUIET)
    assert len(server.asked) == 3
    server.codes = [403]
    with pytest.raises(DataError, match="found status 403"):
        download(entry_of(server, body), tmp_path / "b", progress=QUIET)
    assert len(server.asked) == 4


@pytest.mark.parametrize("old", [False, True], ids=["filters", "before filters"])
def test_nothing_lands_outside_the_folder(
    old: bool, server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    for member in (tarfile.TarInfo("../evil"), tarfile.TarInfo("/evil/../../evil"), link):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            archive.addfile(member)
        with pytest.raises(DataError, match="cannot be read"):
            download(entry_of(server, buffer.getvalue()), tmp_path / "a" / "b", progress=QUIET)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("../evil", "x")
    download(entry_of(server, buffer.getvalue()), tmp_path / "a" / "b", progress=QUIET)
    assert not list(tmp_path.glob("evil")) + list((tmp_path / "a").glob("evil"))


def test_two_processes_do_not_write_one_file(server: Files, body: bytes, tmp_path: Path) -> None:
    parts = tmp_path / ".downloads" / "cifar10"
    parts.mkdir(parents=True)
    with FileLock(parts / ".lock"), pytest.raises(DataError, match="Another process is fetching"):
        download(entry_of(server, body), tmp_path, progress=QUIET)


def test_a_full_disk_is_told_before_anything_is_written(
    server: Files, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = downloading.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(DataError, match=r"needs 0 MB in .*Make room"):
        download(entry_of(server, body), tmp_path, progress=QUIET)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["data", "download", *arguments])
    return done.exit_code, done.output


def test_the_command_ends_with_a_checked_set(
    server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files and an archive, as Flowers comes; the miniature stands for the official set."""
    mini = shared_mini() / "flowers-102"
    root = tmp_path / "data"
    for file in ("imagelabels.mat", "setid.mat"):
        server.content[f"/{file}"] = (mini / file).read_bytes()
    server.content["/102flowers.tgz"] = packed(mini / "jpg", "jpg")
    archives = {
        name: hashlib.md5(server.content[f"/{name}"]).hexdigest()
        for name in spec("flowers").archives
    }
    downloads = {f"{server.url}/{name}": "flowers-102" for name in archives}
    entry = replace(spec("flowers"), archives=archives, downloads=downloads)
    monkeypatch.setitem(catalogue._BUILT_IN, "flowers", entry)
    root.mkdir()
    (root / MARKER).write_bytes((shared_mini() / MARKER).read_bytes())
    server.cuts = [2_000]
    code, output = run("flowers", "--data-root", str(root), "--quiet")
    assert code == 0, output
    assert output.count("md5 as published") == 3
    assert f"flowers: complete in {root / 'flowers-102'}" in output
    server.asked.clear()
    assert run("flowers", "--data-root", str(root)) == (
        0, f"flowers: complete in {root}; nothing to fetch\n",
    )  # fmt: skip
    assert server.asked == []


@pytest.mark.parametrize(
    "name", ["imagenet", "cub", "cars", "dogs", "nabirds", "davis", "copydays"]
)
def test_what_may_not_be_fetched_has_its_page_licence_and_steps(name: str, tmp_path: Path) -> None:
    code, output = run(name, "--data-root", str(tmp_path))
    assert code == 3
    entry = spec(name)
    for part in (entry.home, f"Licence: {entry.licence}", *entry.steps):
        assert part in output
    assert entry.steps


def test_every_set_is_fetched_or_has_steps() -> None:
    for name in catalogue._BUILT_IN:
        entry = spec(name)
        assert entry.downloads or entry.steps, name
        for url in entry.downloads:
            assert downloading.file_of(url) in entry.archives, url


def test_addresses_and_digests_are_torchvisions() -> None:
    from torchvision import datasets as theirs

    flowers = theirs.Flowers102
    urls = {
        "cifar10": {theirs.CIFAR10.url: theirs.CIFAR10.tgz_md5},
        "cifar100": {theirs.CIFAR100.url: theirs.CIFAR100.tgz_md5},
        "flowers": {
            flowers._download_url_prefix + f: md5 for f, md5 in flowers._file_dict.values()
        },
        "pets": dict(theirs.OxfordIIITPet._RESOURCES),
        "aircraft": {theirs.FGVCAircraft._URL: ""},
    }
    for name, files in urls.items():
        entry = spec(name)
        found = {url: entry.archives[downloading.file_of(url)] for url in entry.downloads}
        assert found == files, name
