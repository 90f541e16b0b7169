"""What is gathered from pieces is what the pieces are, in every record too."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import fake_checkpoints as fake
from fake_folders import make, shards
from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.read import read
from sdssl_bench.encoders import ModelInfo
from sdssl_bench.errors import DataError
from sdssl_bench.records import model_identity

PIECES = ("safetensors shards", "bin shards", "distributed")


def info(uri: str) -> ModelInfo:
    found = checkpoints.load(uri).info
    assert found is not None
    return found


@pytest.mark.parametrize("kind", PIECES)
@pytest.mark.filterwarnings("ignore:torch.distributed")
def test_one_file_gives_the_record_of_its_pieces(kind: str, tmp_path: Path) -> None:
    folder = make(kind, tmp_path / "checkpoint", fake.vit(1).state_dict())
    (folder / "config.json").write_text('{"model_type": "vit", "hidden_act": "gelu"}')
    cache = tmp_path / "cache"
    promised = checkpoints.whole(str(folder), cache)
    assert not Path(promised).exists()
    assert checkpoints.gather(str(folder), cache) == promised
    one, pieces = info(promised), info(str(folder))
    assert replace(one, uri="") == replace(pieces, uri="")
    assert model_identity(asdict(one)) == model_identity(asdict(pieces))
    assert checkpoints.file_identity(promised) == (pieces.name, pieces.file_sha256)
    before = Path(promised).stat().st_mtime_ns
    assert checkpoints.gather(str(folder), cache) == promised
    assert Path(promised).stat().st_mtime_ns == before
    assert checkpoints.gather(promised, cache) == promised


def test_pieces_that_change_are_gathered_again(tmp_path: Path) -> None:
    state = fake.vit(1).state_dict()
    index = shards(tmp_path, state)
    first = checkpoints.gather(str(index), tmp_path / "cache")
    state["cls_token"] = state["cls_token"] + 1
    shards(tmp_path, state)
    second = checkpoints.gather(str(index), tmp_path / "cache")
    assert first != second
    assert info(second).weights_sha256 == info(str(index)).weights_sha256
    assert info(first).weights_sha256 != info(second).weights_sha256


def test_what_is_whole_stays_where_it_is(tmp_path: Path) -> None:
    file = fake.plain(tmp_path / "alone.pth", fake.vit(1))
    folder = make("model.safetensors", tmp_path / "folder", fake.vit(1).state_dict())
    for uri in (str(file), str(folder), "timm:vit_tiny_patch16_224", "control:pixels", "gone.pth"):
        assert checkpoints.gather(uri, tmp_path / "cache") == uri
        assert checkpoints.whole(uri, tmp_path / "cache") == uri
    assert not (tmp_path / "cache").exists()
    assert checkpoints.file_identity(str(file)) == ("alone", checkpoints.file_sha256(file))
    assert checkpoints.file_identity("control:pixels") is None


def test_a_file_that_does_not_say_what_it_is_made_of_is_refused(tmp_path: Path) -> None:
    from sdssl_bench.checkpoints.files import GATHERED
    from sdssl_bench.checkpoints.native import write_tensors

    for header in ("", "[]", '{"name": "x"}', "[" * 100_000):
        file = tmp_path / "x.safetensors"
        write_tensors(file, {"x": torch.ones(1)}, {GATHERED: header})
        with pytest.raises(DataError, match="gathered from"):
            read(str(file))
