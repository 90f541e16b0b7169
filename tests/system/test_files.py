"""Whatever a disk refuses is one sentence that names the path; what was there stays whole."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sdssl_bench.errors import TaskError, UsageError, UserError
from sdssl_bench.system.files import check_folder, refused, replacing, unwritable, write_atomic

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "c", b"x")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [(errno.ENOSPC, TaskError, "its disk is full"), (errno.EDQUOT, TaskError, "its disk is full"),
     (errno.EROFS, UsageError, "Choose a place that can be"), (errno.EIO, TaskError, "still there"),
     (errno.EACCES, UsageError, "Choose a place"), (errno.ENOTDIR, UsageError, "a file stands where"),
     (errno.ESTALE, TaskError, "still there"), (errno.ENAMETOOLONG, UsageError, "a shorter path")],
)  # fmt: skip
def test_every_refusal_names_the_path_and_what_to_do(
    number: int, kind: type[UserError], says: str
) -> None:
    error = unwritable(OSError(number, os.strerror(number)), Path("/out/a.json"), advice="Or pray.")
    assert type(error) is kind
    assert "/out/a.json" in str(error)
    assert says in str(error)
    assert "\n" not in str(error)
    if kind is TaskError:
        assert "stored before is whole" in str(error)
        assert str(error).endswith(". Or pray.")


def test_an_error_that_is_not_the_disks_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_library_of_rust_only_quotes_the_system(tmp_path: Path) -> None:
    quoted = RuntimeError("Error while serializing: I/O error: ... (os error 28)")
    full = r"a cannot be written, its disk is full"
    with pytest.raises(TaskError, match=full), replacing(tmp_path / "a"):
        raise quoted


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    """A limit on the size of files is a disk that is full; whatever was written in part goes."""
    path = tmp_path / "a"
    write_atomic(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(TaskError, match="its disk is full"):
            write_atomic(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_file_where_a_folder_is_wanted_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for act in (
        lambda: write_atomic(tmp_path / "file" / "a", b""),
        lambda: check_folder(tmp_path / "file"),
        lambda: check_folder(tmp_path / "file" / "deep"),
        lambda: write_atomic(tmp_path / "folder", b""),
    ):
        with pytest.raises(UsageError, match="stands where"):
            act()


def test_a_checked_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    assert list(check_folder(tmp_path / "a" / "b").iterdir()) == []


def test_paths_that_no_disk_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shorter path") as caught:
        write_atomic(tmp_path / ("x" * 5000), b"")
    assert len(str(caught.value)) < 400
    with pytest.raises(UserError, match="cannot be written"):
        write_atomic(Path("/proc/nothing/a"), b"")
    write_atomic(tmp_path / ("x" * 250), b"")  # as long as a name may be


def test_an_error_without_a_name_is_still_a_sentence() -> None:
    assert "No space" in str(refused(OSError(errno.ENOSPC, "No space left on device")))
    said = str(refused(FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b.jpg")))
    assert said.startswith("a/b.jpg: No such file or directory.")


@pytest.mark.slow
def test_a_real_file_system_that_is_full_or_read_only(tmp_path: Path) -> None:
    """Needs to mount; elsewhere the tests above stand for it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount")
    try:
        write_atomic(disk / "a", b"old")
        with pytest.raises(TaskError, match=r"disk/b cannot be written, its disk is full"):
            write_atomic(disk / "b", b"x" * 100_000)
        assert [one.name for one in disk.iterdir()] == ["a"]
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(UsageError, match="Read-only"):
            write_atomic(disk / "a", b"new")
        assert (disk / "a").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
