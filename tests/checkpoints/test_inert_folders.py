"""Folders open as their files do, as strictly; what is in pieces says how to put it together."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

import fake_checkpoints as fake
from fake_folders import make, shards
from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.inert.distributed import _fills, _Shard
from sdssl_bench.checkpoints.read import read
from sdssl_bench.checkpoints.verify import digest_of_module
from sdssl_bench.errors import DataError

KINDS = (
    "model.safetensors",
    "pytorch_model.bin",
    "safetensors shards",
    "bin shards",
    "distributed",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:torch.distributed")
def test_a_folder_opens_as_the_model_it_was_made_of(kind: str, tmp_path: Path) -> None:
    model = fake.vit(1)
    folder = make(kind, tmp_path / "org-name-v1.5", model.state_dict())
    config = {"model_type": "vit", "hidden_act": "gelu"}
    (folder / "config.json").write_text(json.dumps(config))
    file = read(str(folder)).file
    assert file is not None
    assert file.hints == {"config.json": config}
    found = file.content.get("model", file.content)
    names = {name.removeprefix("model."): tensor for name, tensor in found.items()}
    assert names.keys() == model.state_dict().keys()
    assert all(torch.equal(names[name], tensor) for name, tensor in model.state_dict().items())
    encoder = checkpoints.load(str(folder))
    assert encoder.info is not None
    assert encoder.info.name.startswith("org-name-v1.5")
    alone = checkpoints.load(str(fake.plain(tmp_path / "alone.pth", model)))
    assert digest_of_module(encoder) == digest_of_module(alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:torch.distributed")
def test_the_digest_of_a_folder_is_that_of_its_weights(kind: str, tmp_path: Path) -> None:
    state = fake.vit(1).state_dict()
    one = make(kind, tmp_path / "one", state)
    other = Path(shutil.copytree(one, tmp_path / "other"))
    (other / "README.md").write_text("more")

    def digest(folder: Path) -> str:
        file = read(str(folder)).file
        assert file is not None
        return file.sha256()

    assert digest(one) == digest(other)
    state["cls_token"] = state["cls_token"] + 1
    assert digest(make(kind, tmp_path / "changed", state)) != digest(one)


def test_an_index_stands_for_its_folder(tmp_path: Path) -> None:
    state = fake.vit(1).state_dict()
    index = shards(tmp_path, state)
    found = read(str(index))
    assert found.file is not None
    assert found.file.content.keys() == state.keys()


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_that_are_not_what_the_index_says_are_errors(suffix: str, tmp_path: Path) -> None:
    state = fake.vit(1).state_dict()
    index = shards(tmp_path, state, suffix=suffix)
    whole = json.loads(index.read_text())
    names = list(state)

    def refused(message: str, **changes: Any) -> None:
        index.write_text(json.dumps(whole | changes))
        with pytest.raises(DataError, match=message):
            read(str(tmp_path))

    where = whole["weight_map"]
    refused("does not hold what", weight_map={**where, names[0]: where[names[1]]})
    refused("does not hold what", weight_map={k: v for k, v in where.items() if k != names[2]})
    refused("does not hold what", weight_map={**where, "blocks.99999999999.x": where[names[0]]})
    refused("which is missing", weight_map={**where, names[0]: "gone." + suffix})
    refused(
        "which is missing", weight_map={**where, names[0]: f"../{tmp_path.name}/{where[names[0]]}"}
    )
    refused("has no weight_map", weight_map=[1])
    index.write_text("[" * 100_000)
    with pytest.raises(DataError, match="is damaged, expected JSON"):
        read(str(tmp_path))


def test_a_folder_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "epoch3.pth").touch()
    with pytest.raises(DataError, match=r"is a folder.*model\.safetensors.*epoch3\.pth"):
        read(str(tmp_path))


def test_an_adapter_says_how_to_merge_it(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file({"x": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(DataError, match="merge_and_unload"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.attn.qkv.lora_A.weight", "base_model.model.blocks.0.attn.qkv.lora_B.default.weight",
        "blocks.0.attn.lora_a", "unet.down.to_k_lora.down.weight".replace("to_k_lora.", "to_k.lora_"),
    ],
)  # fmt: skip
def test_an_unmerged_adapter_beside_weights_says_how_to_merge_it(name: str, tmp_path: Path) -> None:
    state = fake.vit(1).state_dict() | {name: torch.ones(4, 4)}
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"low-rank adapter.*merge_and_unload"):
        read(str(tmp_path / "x.pth"))
    torch.save(
        {"state_dict": fake.vit(1).state_dict() | {"head.explorations": torch.ones(1)}},
        tmp_path / "x",
    )
    read(str(tmp_path / "x"))


@pytest.mark.parametrize(
    "name", ["backbone._fsdp_wrapped_module._flat_param", "_flat_param", "blocks.0.flat_param_12"]
)
def test_flat_shards_name_the_command_that_gathers_them(name: str, tmp_path: Path) -> None:
    torch.save({"teacher": {name: torch.ones(99)}}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"flat parameters of FSDP.*FULL_STATE_DICT"):
        checkpoints.load(str(tmp_path / "x.pth"))


# Folders of torch.distributed.checkpoint


@pytest.fixture
def sharded(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """One tensor in two pieces of two files, and one whole, as two processes write them."""
    from torch.distributed.checkpoint import filesystem, metadata

    folder = tmp_path / "dcp"
    folder.mkdir()
    state = {
        "w": torch.arange(24.0).reshape(4, 6),
        "b": torch.arange(3).bfloat16(),
        "n": torch.tensor(7),
    }
    pieces = {("w", (0, 0)): state["w"][:3].clone(), ("w", (3, 0)): state["w"][3:].clone(),
              ("b", (0,)): state["b"], ("n", ()): state["n"]}  # fmt: skip
    places = {}
    for index, ((name, offset), piece) in enumerate(pieces.items()):
        path = folder / f"__{index % 2}_0.distcp"
        with path.open("ab") as stream:
            start = stream.tell()
            torch.save(piece, stream)
            length = stream.tell() - start
        info = filesystem._StorageInfo(path.name, start, length)
        places[metadata.MetadataIndex(name, offset, 0)] = info
    index = {
        name: metadata.TensorStorageMetadata(
            metadata.TensorProperties(tensor.dtype),
            tensor.size(),
            [
                metadata.ChunkStorageMetadata(torch.Size(offset), piece.size())
                for (other, offset), piece in pieces.items()
                if other == name
            ],
        )
        for name, tensor in state.items()
    }
    index["epoch"] = metadata.BytesStorageMetadata()
    whole = metadata.Metadata(index, storage_data=places, storage_meta=metadata.StorageMeta())
    (folder / ".metadata").write_bytes(pickle.dumps(whole))
    return folder, state


def test_pieces_are_put_together_as_torch_does(sharded: tuple[Path, dict[str, Tensor]]) -> None:
    folder, state = sharded
    file = read(str(folder)).file
    assert file is not None
    assert file.content.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(file.content[name], tensor)
        assert file.content[name].dtype == tensor.dtype
    assert file.stood_in == ("epoch",)
    twin = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    dcp.load(twin, checkpoint_id=folder, no_dist=True)
    assert all(torch.equal(file.content[name], tensor) for name, tensor in twin.items())


def test_pieces_that_are_missing_or_lie_are_errors(sharded: tuple[Path, dict[str, Tensor]]) -> None:
    folder, _ = sharded
    index = folder / ".metadata"
    whole = index.read_bytes()

    def refused(message: str, change: Any) -> None:
        found = pickle.loads(whole)
        change(found)
        index.write_bytes(pickle.dumps(found))
        with pytest.raises(DataError, match=message):
            read(str(folder))
        index.write_bytes(whole)

    def move(found: Any) -> None:
        for place in found.storage_data.values():
            place.relative_path = "../" + place.relative_path

    refused("which is missing", move)
    refused("do not make up the whole", lambda found: found.state_dict_metadata["w"].chunks.pop())
    refused("do not make up the whole", lambda found: found.storage_data.popitem())

    def grow(found: Any) -> None:
        found.state_dict_metadata["b"].size = torch.Size((1 << 40,))

    refused("states more than", grow)

    def shift(found: Any) -> None:
        for place in found.storage_data.values():
            place.offset += 1

    refused("cannot be put together", shift)
    for cut in (0.1, 0.5, 0.9):
        index.write_bytes(whole[: int(len(whole) * cut)])
        with pytest.raises(DataError, match="is no index"):
            read(str(folder))
    index.write_bytes(whole)
    (folder / "__1_0.distcp").unlink()
    with pytest.raises(DataError, match=r"'__1_0\.distcp', which is missing"):
        read(str(folder))


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return open, (str(self.target), "w")


def test_neither_the_index_nor_the_values_of_a_folder_run(
    sharded: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    folder, state = sharded
    target = tmp_path / "pwned"
    found = pickle.loads((folder / ".metadata").read_bytes())
    found.planner_data = Bomb(target)
    (folder / ".metadata").write_bytes(pickle.dumps(found))
    assert read(str(folder)).file.content.keys() == state.keys()  # type: ignore[union-attr]
    bomb = tmp_path / "bomb"
    dcp.save({"w": torch.ones(2), "evil": Bomb(target)}, checkpoint_id=bomb, no_dist=True)
    assert list(read(str(bomb)).file.content) == ["w"]  # type: ignore[union-attr]
    assert not target.exists()


boxes = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), st.integers(0, 4))


@given(parts=st.lists(boxes, max_size=4), rows=st.integers(0, 4), columns=st.integers(0, 4))
def test_pieces_fill_a_tensor_if_each_element_is_in_one(
    parts: list[tuple[int, int, int, int]], rows: int, columns: int
) -> None:
    counts = torch.zeros(8, 8, dtype=torch.int64)
    for row, column, height, width in parts:
        counts[row : row + height, column : column + width] += 1
    wanted = torch.zeros(8, 8, dtype=torch.int64)
    wanted[:rows, :columns] = 1
    found = _fills([_Shard((r, c), (h, w)) for r, c, h, w in parts], (rows, columns))
    inside = all(r + h <= rows and c + w <= columns for r, c, h, w in parts)
    assert found == (inside and torch.equal(counts, wanted))
