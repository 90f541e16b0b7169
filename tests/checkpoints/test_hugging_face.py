"""Repositories of the hub from its cache: which commit, and what is said if there is none."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.errors import DataError, UsageError

COMMITS = {"main": "a" * 40, "v2": "b" * 40}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two revisions of one repository, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--net"
    (folder / "refs").mkdir(parents=True)
    for seed, (name, commit) in enumerate(COMMITS.items()):
        (folder / "refs" / name).write_text(commit)
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        save_file(dict(fake.vit(seed).state_dict()), snapshot / "model.safetensors")
        (snapshot / "config.json").write_text("{}")
        (snapshot / "preprocessor_config.json").write_text(
            '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
        )
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "seed"), [("", 0), ("@main", 0), ("@v2", 1), (f"@{'b' * 40}", 1)]
)
def test_a_revision_is_found_and_its_commit_recorded(cache: Path, asked: str, seed: int) -> None:
    encoder = checkpoints.load(f"hf:org/net{asked}")
    assert encoder.info is not None
    assert encoder.info.details["revision"] == list(COMMITS.values())[seed]
    assert encoder.info.name == "org/net"
    assert (encoder.mean, encoder.std) == ((0.5,) * 3, (0.25,) * 3)
    expected = fake.vit(seed).state_dict()["cls_token"]
    assert torch.equal(encoder.backbone_state()["cls_token"], expected)


@pytest.mark.parametrize("asked", ["hf:org/other", "hf:org/net@v3"])
def test_what_is_not_cached_is_an_error_without_a_network(cache: Path, asked: str) -> None:
    with pytest.raises(DataError, match=r"not in the local cache(.|\n)*HF_HUB_OFFLINE is set"):
        checkpoints.load(asked)


@pytest.mark.parametrize("asked", ["hf:", "hf:net", "hf:a/b/c", "hf:../x/y"])
def test_other_texts_are_usage_errors(asked: str) -> None:
    with pytest.raises(UsageError, match="ORG/NAME"):
        checkpoints.load(asked)


@pytest.mark.parametrize(
    "config",
    [
        {"num_attention_heads": "4"},
        {"num_attention_heads": 0},
        {"num_attention_heads": True},
        {"layer_norm_eps": "x"},
        {"layer_norm_eps": float("nan")},
        {"image_size": "big"},
        {"image_size": [32, 32, 32]},
        {"image_size": [32, -1]},
        {"rope_theta": {}},
        {"model_type": ["vit"]},
        {"hidden_act": ["gelu"]},
    ],
    ids=str,
)
def test_a_config_with_values_that_cannot_be_is_an_error_that_names_one(
    tmp_path: Path, config: dict[str, object]
) -> None:
    (key,) = config
    save_file(
        fake.names_of_huggingface(dict(fake.vit(1).state_dict())), tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=f"config.json says {key} "):
        checkpoints.load(str(tmp_path))


def test_a_square_of_two_numbers_is_one_side(tmp_path: Path) -> None:
    save_file(
        fake.names_of_huggingface(dict(fake.vit(1).state_dict())), tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text('{"num_attention_heads": 1, "image_size": [32, 32]}')
    assert checkpoints.load(str(tmp_path)).input_size == 32
