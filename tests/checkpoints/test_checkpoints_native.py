"""Our own format: written whole or not at all, and opened again with no further option."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pretrain_fixtures import make_images
from sdssl_bench import checkpoints, encoders, evaluate, load_encoder
from sdssl_bench.checkpoints.native import METADATA_KEY
from sdssl_bench.encoders.encoder import Encoder, cls
from sdssl_bench.encoders.vit import ViTConfig
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.leaderboard import row_labels, tidy

CONFIG = ViTConfig(48, 2, 3, 8, 32, pos="sincos-row")


def encoder(config: ViTConfig = CONFIG, **options: Any) -> Encoder:
    torch.manual_seed(1)
    built = encoders.build_vit(config, **options)
    for parameter in built.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return built.eval()


def assert_same(a: Encoder, b: Encoder, size: int = 32) -> None:
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        first, second = (e.forward_layers(images, range(1, e.depth + 1), cls) for e in (a, b))
    for layer in first:
        assert torch.equal(first[layer], second[layer])


def rewrite(path: Path, header: object) -> None:
    """The same tensors under another header."""
    with safe_open(str(path), "pt") as stream:
        state = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    save_file(state, path, metadata={METADATA_KEY: json.dumps(header)})


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(str(path), "pt") as stream:
        return dict(json.loads(stream.metadata()[METADATA_KEY]))


def test_the_same_weights_are_written_as_the_same_bytes(tmp_path: Path) -> None:
    files = {checkpoints.save(encoder(), tmp_path / f"{n}.safetensors") for n in range(12)}
    assert len({path.read_bytes() for path in files}) == 1


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        ViTConfig(48, 2, 4, 8, 32),
        ViTConfig(48, 2, 3, 8, 32, pos="sincos-row", per_layer_norm=True),
        ViTConfig(48, 2, 3, 8, 32, reg_tokens=4, no_embed_class=True, layer_scale=True),
        ViTConfig(48, 2, 3, 8, 32, swiglu=True, mlp_ratio=2.0, norm_eps=1e-5),
    ],
    ids=["sincos", "learned", "norms", "registers", "swiglu"],
)
def test_a_vit_comes_back_exactly(tmp_path: Path, config: ViTConfig) -> None:
    original = encoder(config)
    path = checkpoints.save(
        original,
        tmp_path / "x.safetensors",
        network="teacher",
        epoch=12,
        config={"preset": "sd_mocov3", "lr": 1e-3},
        extra={"note": "é"},
    )
    loaded = checkpoints.load(str(path))
    assert loaded.info is not None
    assert (loaded.info.format, loaded.info.network) == ("sdssl-bench", "teacher")
    details = loaded.info.details
    assert (details["heads"], details["epoch"]) == (config.heads, 12)
    assert details["config"] == {"preset": "sd_mocov3", "lr": 1e-3}
    assert details["extra"] == {"note": "é"}
    assert details["norm"] == ("per-layer" if config.per_layer_norm else "shared")
    assert loaded.info.weights_sha256 == checkpoints.digest_of_module(original)
    assert_same(original, loaded)


def test_settings_of_the_encoder_are_kept_and_can_be_overridden(tmp_path: Path) -> None:
    original = encoder(norm="identity", input_size=64)
    original.mean, original.std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)
    path = str(checkpoints.save(original, tmp_path / "x.safetensors"))
    loaded = checkpoints.load(path)
    assert (loaded.norm, loaded.input_size) == ("identity", 64)
    assert (loaded.mean, loaded.std) == (original.mean, original.std)
    again = checkpoints.load(path, norm="none", img_size=32, heads=3, patch_size=8)
    assert (again.norm, again.input_size) == ("none", 32)
    for options in ({"heads": 6}, {"patch_size": 4}, {"arch": "resnet18"}):
        with pytest.raises(UsageError, match="contradicts"):
            checkpoints.load(path, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"--network teacher: .* has model"):
        checkpoints.load(path, network="teacher")


def test_a_state_dict_with_an_architecture_name(tmp_path: Path) -> None:
    original = encoders.build("vit_tiny_p8_32")
    state = original.backbone_state()  # type: ignore[operator]
    path = checkpoints.save(state, tmp_path / "x.safetensors", arch="vit_tiny_p8_32", epoch=3)
    loaded = checkpoints.load(str(path))
    assert loaded.info is not None
    assert (loaded.info.arch, loaded.input_size) == ("vit_tiny_p8_32", 32)
    assert_same(original.eval(), loaded)


def test_a_resnet_comes_back(tmp_path: Path) -> None:
    original = encoders.build("resnet18", img_size=64)
    path = checkpoints.save(original, tmp_path / "x.safetensors", arch="resnet18", network="base")
    loaded = checkpoints.load(str(path))
    assert loaded.info is not None
    assert (loaded.info.arch, loaded.norm, loaded.input_size) == ("resnet18", "none", 64)
    assert_same(original.eval(), loaded, 64)


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    original = encoder()
    state = original.backbone_state()  # type: ignore[operator]
    shared = torch.zeros(2, 48)
    state |= {"norm.weight": shared[0], "norm.bias": shared[1]}
    path = checkpoints.save(state, tmp_path / "x.safetensors", arch=CONFIG)
    assert checkpoints.load(str(path)).depth == 2


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoints.save(encoder(), tmp_path / "x.safetensors")
    before = path.read_bytes()

    def crash(tensors: object, filename: Path, metadata: object) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", crash)
    with pytest.raises(TaskError, match="disk full"):
        checkpoints.save(encoder(), path, epoch=2)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `arch`"),
        ({"arch": CONFIG, "network": "techer"}, "Unknown network 'techer'. Did you mean 'teacher'"),
        ({"arch": CONFIG, "norm": "layer"}, "Unknown norm 'layer'"),
    ],
)
def test_incomplete_descriptions_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        checkpoints.save({"a": torch.zeros(1)}, tmp_path / "x.safetensors", **options)
    assert not list(tmp_path.iterdir())


def _later(header: dict[str, Any]) -> object:
    return header | {"version": 2}


def _without_network(header: dict[str, Any]) -> object:
    return {k: v for k, v in header.items() if k != "network"}


def _unknown_field(header: dict[str, Any]) -> object:
    return header | {"arch": {"vit": header["arch"]["vit"] | {"rope": True}}}


def _missing_field(header: dict[str, Any]) -> object:
    return header | {"arch": {"vit": {"dim": 48}}}


def _list(_header: dict[str, Any]) -> object:
    return [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_later, "has checkpoint version 2"),
        (_without_network, "damaged sdssl-bench header"),
        (_unknown_field, r"unknown fields \['rope'\]"),
        (_missing_field, "damaged sdssl-bench header"),
        (_list, "damaged sdssl-bench header"),
    ],
)
def test_damaged_headers_are_data_errors(tmp_path: Path, change: Any, message: str) -> None:
    path = checkpoints.save(encoder(), tmp_path / "x.safetensors")
    rewrite(path, change(header_of(path)))
    with pytest.raises(DataError, match=message):
        checkpoints.load(str(path))


def test_tensors_that_do_not_fit_the_header_are_refused(tmp_path: Path) -> None:
    path = checkpoints.save(encoder(), tmp_path / "x.safetensors")
    header = header_of(path)
    header["arch"]["vit"]["depth"] = 3
    rewrite(path, header)
    with pytest.raises(DataError, match="12 missing"):
        checkpoints.load(str(path))


def test_encoders_of_a_run_have_its_name_and_namesakes_never_share_a_record(tmp_path: Path) -> None:
    one, other = encoder(), encoders.build_vit(CONFIG)
    for path, source, epoch in (
        ("a/sd_mocov3/encoder", one, 2),
        ("b/sd_mocov3/encoder", other, 2),
        ("a/sd_mocov3/encoders/epoch-0001", other, 1),
        ("a/sd_mocov3/encoders/epoch-0002", one, 2),
    ):
        checkpoints.save(source, tmp_path / f"{path}.safetensors", epoch=epoch)
    found = {
        path.relative_to(tmp_path): load_encoder(str(path))
        for path in sorted(tmp_path.rglob("*.safetensors"))
    }
    infos = [one.info for one in found.values() if one.info is not None]
    assert [info.name for info in infos] == [
        "sd_mocov3", "sd_mocov3/epoch-0001", "sd_mocov3/epoch-0002", "sd_mocov3",
    ]  # fmt: skip
    for split, count in (("train", 4), ("test", 2)):
        for label in ("a", "b"):
            make_images(tmp_path / "set" / split / label, count)
    data = f"folder:{tmp_path / 'set'}"
    nearest = {"k": "1", "headline_k": "1"}
    for one in found.values():
        evaluate(one, "knn", data, parameters=nearest, results=tmp_path / "results")
    frame = tidy(ResultStore(tmp_path / "results"))
    labels = row_labels(frame)
    assert frame.groupby(labels)["weights_sha256"].nunique().eq(1).all()
    assert labels.nunique() == len(found)
    namesakes = [label for label in labels.unique() if "/" not in label]
    assert [label.partition(" ")[0] for label in namesakes] == ["sd_mocov3", "sd_mocov3"]
