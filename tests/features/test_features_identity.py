"""The cache key changes with everything that changes a feature, and with nothing else."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from fakes import FakeEncoder, Pixels, plain_images
from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.features.identity import feature_identity, key_of, structure_digest


def key(
    encoder: FakeEncoder | None = None,
    images: ImageSet | None = None,
    preprocess: Any = None,
    *,
    dtype: str = "float32",
    bank_dtype: str = "float32",
) -> str:
    facts = feature_identity(
        encoder or FakeEncoder(),
        images or plain_images(10),
        preprocess=preprocess or Pixels(),
        dtype=dtype,
        bank_dtype=bank_dtype,
    )
    return key_of(facts)


def with_info(**changes: Any) -> FakeEncoder:
    encoder = FakeEncoder()
    assert encoder.info is not None
    encoder.info = replace(encoder.info, **changes)
    return encoder


def changed(name: str, value: Any) -> FakeEncoder:
    encoder = FakeEncoder()
    setattr(encoder, name, value)
    return encoder


CHANGES: dict[str, Callable[[], str]] = {
    "weights": lambda: key(with_info(weights_sha256="1" * 64)),
    "arch": lambda: key(with_info(arch="other")),
    "norm": lambda: key(changed("norm", "identity")),
    "mean": lambda: key(changed("mean", (0.1, 0.0, 0.0))),
    "std": lambda: key(changed("std", (1.0, 1.0, 0.9))),
    "input size": lambda: key(FakeEncoder(input_size=16)),
    "stride": lambda: key(FakeEncoder(stride=2)),
    "images": lambda: key(images=plain_images(10, seed=1)),
    "number of images": lambda: key(images=plain_images(11)),
    "freshness": lambda: key(images=replace(plain_images(10), freshness="touched")),
    "split": lambda: key(images=plain_images(10, split="test")),
    "preprocessing": lambda: key(preprocess=Pixels("squashed")),
    "dtype": lambda: key(dtype="bfloat16"),
    "bank dtype": lambda: key(bank_dtype="float16"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_gives_another_key(change: str) -> None:
    assert CHANGES[change]() != key()


def test_names_of_the_same_weights_do_not_matter() -> None:
    one = with_info(name="a", uri="x.pth", format="dino", network="teacher", details={"epoch": 3})
    assert key(one) == key()
    encoder = FakeEncoder().train()
    assert key(encoder) == key()
    assert key(images=replace(plain_images(10), targets=np.zeros(10, np.int64))) == key()


def vit(**changes: Any) -> nn.Module:
    settings = {"img_size": 8, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2}
    return VisionTransformer(**{**settings, **changes}, num_classes=0)


def test_models_that_differ_in_what_weights_do_not_show_differ_in_structure() -> None:
    assert structure_digest(vit()) == structure_digest(vit())
    shapes = {name: value.shape for name, value in vit().state_dict().items()}
    for change in ({"num_heads": 3}, {"norm_layer": nn.LayerNorm}, {"act_layer": nn.ReLU}):
        other = vit(**change)
        assert {name: value.shape for name, value in other.state_dict().items()} == shapes
        assert structure_digest(other) != structure_digest(vit()), change


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("my_encoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["my_encoder"] = module
    spec.loader.exec_module(module)
    return module


def test_editing_the_code_of_an_own_encoder_changes_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "my_encoder", ModuleType("my_encoder"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "my_encoder.py"
    digests = []
    for factor in (1, 1, 2):
        path.write_text(
            "from torch import nn\n"
            "class Mine(nn.Linear):\n"
            f"    def forward(self, x):\n        return super().forward(x) * {factor}\n"
        )
        digests.append(structure_digest(nn.Sequential(load_module(path).Mine(1, 1))))
    assert digests[0] == digests[1] != digests[2]


def test_a_class_without_a_file_still_has_a_digest() -> None:
    scope: dict[str, Any] = {"nn": nn, "__name__": "console"}
    exec("class Mine(nn.Identity):\n    pass", scope)
    assert structure_digest(scope["Mine"]()) != structure_digest(nn.Identity())


def test_the_key_is_the_same_in_every_process_and_version_of_python() -> None:
    facts = feature_identity(
        with_info(), plain_images(3), preprocess=Pixels(), dtype="float32", bank_dtype="float32"
    )
    facts["model"]["structure_sha256"] = ""
    assert key_of(facts) == "aa40ce05a3069ca4a1e8aff399b4b6d7"
