"""The digest of a checkpoint's files: what `sha256sum` says of one, and of all bytes of several."""

import hashlib
from pathlib import Path

import pytest

import fake_checkpoints as fake
from fake_folders import make, shards
from sdssl_bench.checkpoints.files import CheckpointFile, file_sha256
from sdssl_bench.checkpoints.read import read

SIZE = 3_000_001
"""More than any buffer that a file is read by."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(place: Path) -> str:
    file = read(str(place)).file
    assert file is not None
    return file.sha256()


@pytest.mark.parametrize("place", [0, SIZE // 2, SIZE - 1])
def test_every_byte_of_a_file_counts(place: int, tmp_path: Path) -> None:
    content = bytearray(SIZE)
    (tmp_path / "x").write_bytes(content)
    assert file_sha256(tmp_path / "x") == sha256(content)
    content[place] = 1
    (tmp_path / "x").write_bytes(content)
    assert file_sha256(tmp_path / "x") == sha256(content)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_one_file_has_the_digest_of_that_file(kind: str, tmp_path: Path) -> None:
    folder = make(kind, tmp_path / "folder", fake.vit(1).state_dict())
    (folder / "config.json").write_text("{}")
    assert digest(folder) == digest(folder / kind) == sha256((folder / kind).read_bytes())


def test_shards_and_their_index_have_one_digest_as_sha256sum_lists_them(tmp_path: Path) -> None:
    index = shards(tmp_path, fake.vit(1).state_dict())
    parts = sorted(tmp_path.glob("model*"))
    lines = [f"{part.name} {sha256(part.read_bytes())}\n" for part in parts]
    assert len(lines) == 4
    assert digest(tmp_path) == digest(index) == sha256("".join(lines).encode())


def test_pieces_in_any_order_have_one_digest_of_their_names_and_bytes(tmp_path: Path) -> None:
    parts = [tmp_path / name for name in ("a", "b", "c")]

    def of(contents: list[bytes], order: tuple[int, ...] = (0, 1, 2)) -> str:
        for part, content in zip(parts, contents, strict=True):
            part.write_bytes(content)
        chosen = tuple(parts[i] for i in order)
        return CheckpointFile(tmp_path, "distributed", {}, parts=chosen).sha256()

    base = of([b"1", b"2", b"3"])
    assert of([b"1", b"2", b"3"], (2, 0, 1)) == base
    others = [[b"2", b"1", b"3"], [b"1", b"2", b"4"], [b"1", b"4", b"3"], [b"4", b"2", b"3"]]
    assert len({base, *map(of, others)}) == 5
