"""The doctor tells trained from untrained weights, sees collapse, and explains what cannot load."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import fake_checkpoints as fake
from sdssl_bench import checkpoints, encoders
from sdssl_bench.checkpoints import render
from sdssl_bench.checkpoints.doctor import diagnose
from sdssl_bench.checkpoints.freshness import dispersion, examine, looks_fresh
from sdssl_bench.encoders.vit import ViTConfig
from sdssl_bench.errors import DataError, UsageError

CONFIG = ViTConfig(64, 2, 2, 8, 32)


def text(diagnosis: Any) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(render(diagnosis))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_trained_checkpoint(tmp_path: Path) -> None:
    student, teacher = fake.vit(1), fake.vit(2)
    path = fake.dino(tmp_path / "x.pth", student, teacher)
    diagnosis = diagnose(str(path))
    assert (diagnosis.weights, diagnosis.untouched) == ("trained", ())
    assert diagnosis.compared == len(list(teacher.parameters()))
    assert sum(group.tensors for group in diagnosis.groups) == diagnosis.compared
    assert [layer.layer for layer in diagnosis.layers] == [1, 2]
    assert all(layer.finite and -1 <= layer.cosine <= 1.001 for layer in diagnosis.layers)
    assert json.loads(json.dumps(diagnosis.to_json()))["model"]["network"] == "teacher"
    shown = text(diagnosis)
    for part in ("dino", "teacher (also there: student)", "left out: 5 head.*", "100 %"):
        assert part in shown
    assert diagnosis.model.weights_sha256 in shown
    assert str(diagnosis.model.file_sha256) in shown
    assert "preprocessing A (short side 256, centre crop 224, bicubic)" in shown


def test_an_untrained_encoder_is_called_so() -> None:
    diagnosis = diagnose("timm:vit_tiny_patch16_224?pretrained=false&img_size=32")
    assert diagnosis.weights == "untrained"
    assert len(diagnosis.untouched) == diagnosis.compared > 100
    assert "This encoder is untrained, as asked for." in text(diagnosis)


def test_random_weights_that_pretend_to_be_trained_are_found(tmp_path: Path) -> None:
    path = checkpoints.save(encoders.build_vit(CONFIG), tmp_path / "x.safetensors", epoch=100)
    diagnosis = diagnose(str(path))
    assert diagnosis.weights == "untrained"
    assert any("look untrained" in warning for warning in diagnosis.warnings)


def test_a_half_loaded_model_is_found(tmp_path: Path) -> None:
    encoder = encoders.build_vit(ViTConfig(64, 4, 2, 8, 32))
    fake.randomise(encoder.model.blocks[0], 3)
    diagnosis = diagnose(str(checkpoints.save(encoder, tmp_path / "x.safetensors")))
    assert diagnosis.weights == "mostly untrained"
    assert not [name for name in diagnosis.untouched if "blocks.0." in name]
    assert "blocks.1.attn.qkv.weight" in diagnosis.untouched


def test_a_network_that_was_trained_for_a_few_steps_is_no_longer_fresh() -> None:
    torch.manual_seed(0)
    encoder = encoders.build_vit(CONFIG)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    images, targets = torch.randn(4, 3, 32, 32), torch.randn(4, 64)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.mse_loss(encoder(images), targets).backward()
        optimizer.step()
    found = examine(encoder)
    assert found.look == "trained"
    assert len(found.untouched) < 0.2 * found.compared


@pytest.mark.parametrize(
    ("fresh", "tensor", "verdict"),
    [
        (torch.zeros(9), torch.zeros(9), True),
        (torch.ones(9), torch.cat([torch.ones(8), torch.tensor([1.001])]), False),
        (torch.ones(9), torch.zeros(9), True),
        (torch.ones(1), torch.zeros(1), False),
    ],
)
def test_constants_are_fresh_only_if_exact(
    fresh: torch.Tensor, tensor: torch.Tensor, verdict: bool
) -> None:
    """Whichever constant: residual branches may start at zero."""
    assert looks_fresh(tensor, fresh) is verdict


def test_distributions_and_structure_decide_for_matrices() -> None:
    torch.manual_seed(0)
    fresh = 0.02 * torch.randn(128, 128)
    assert looks_fresh(0.02 * torch.randn(128, 128), fresh)
    assert looks_fresh(nn.init.xavier_uniform_(torch.empty(128, 128)), fresh)
    assert not looks_fresh(0.03 * torch.randn(128, 128), fresh)
    for mode in ("fan_in", "fan_out"):
        kaiming = nn.init.kaiming_normal_(torch.empty(64, 32, 3, 3), mode=mode)
        other = torch.empty_like(kaiming).uniform_(-1, 1)
        assert looks_fresh(kaiming, other)
        assert not looks_fresh(1.2 * kaiming, other)
        assert not looks_fresh(kaiming * (1 + 0.1 * torch.randn(64, 1, 1, 1)), other)
    rows = 0.02 * torch.randn(128, 128) * torch.linspace(0.7, 1.3, 128)[:, None]
    assert not looks_fresh(rows, fresh)
    assert dispersion(torch.ones(1, 4, 6)) == pytest.approx([0, 0])
    assert dispersion(torch.tensor([[1.0, 1.0], [3.0, 3.0]])) == pytest.approx([0.5, 0])
    assert dispersion(torch.tensor([[1.0, 3.0], [1.0, 3.0]])) == pytest.approx([0, 0.5])
    assert dispersion(torch.ones(5)) == []


def test_tensors_fixed_by_design_are_left_out(tmp_path: Path) -> None:
    model = fake.vit(dim=384, depth=1, heads=12, patch=16, pos="row")
    diagnosis = diagnose(str(fake.mocov3(tmp_path / "x.pth", model, model)))
    assert diagnosis.fixed == ("pos_embed", "patch_embed.proj.")
    assert diagnosis.compared == len(list(model.parameters())) - 3
    assert "fixed by design: pos_embed*, patch_embed.proj.*" in text(diagnosis)


def test_collapse_is_seen_in_the_layer_where_it_happens(tmp_path: Path) -> None:
    encoder = encoders.build_vit(CONFIG)
    fake.randomise(encoder.model, 3)
    with torch.no_grad():
        encoder.model.norm.weight.zero_()
    path = checkpoints.save(encoder, tmp_path / "x.safetensors", norm="none")
    diagnosis = diagnose(str(path))
    assert [layer.verdict for layer in diagnosis.layers] == ["ok", "collapsed"]
    assert "Features are collapsed in layer 2." in diagnosis.warnings


def test_overflow_is_seen(tmp_path: Path) -> None:
    encoder = encoders.build_vit(CONFIG)
    fake.randomise(encoder.model, 3)
    with torch.no_grad():
        encoder.model.blocks[1].mlp.fc2.bias.fill_(3e38)
        encoder.model.blocks[1].attn.proj.bias.fill_(3e38)
    diagnosis = diagnose(str(checkpoints.save(encoder, tmp_path / "x.safetensors", norm="none")))
    assert [layer.verdict for layer in diagnosis.layers] == ["ok", "not finite"]
    assert "NO" in text(diagnosis)


def test_a_resnet_is_examined(tmp_path: Path) -> None:
    import torchvision

    model = fake.randomise(torchvision.models.resnet18(), 1)
    torch.save(model.state_dict(), tmp_path / "x.pth")
    diagnosis = diagnose(str(tmp_path / "x.pth"), img_size=64)
    assert (diagnosis.weights, len(diagnosis.layers)) == ("trained", 4)
    assert "heads" not in text(diagnosis)


def test_examining_changes_neither_random_state_nor_weights(tmp_path: Path) -> None:
    encoder = encoders.build_vit(CONFIG)
    before, state = checkpoints.digest_of_module(encoder), torch.get_rng_state()
    examine(encoder)
    assert checkpoints.digest_of_module(encoder) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_file_that_cannot_be_loaded_is_described(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"generator": {"g.weight": torch.zeros(2)}, "step": 3, "note": "hi"}, path)
    with pytest.raises(DataError) as error:
        diagnose(str(path))
    assert error.value.exit_code == 3
    for part in (
        "no known checkpoint format",
        "What the file holds",
        "content   generator: 1 tensors",
        "prefixes  g (1)",
        "step: int '3'",
        "backbones none",
        checkpoints.file_sha256(path),
    ):
        assert part in str(error.value)


def test_a_strictness_error_still_describes_the_file(tmp_path: Path) -> None:
    state = dict(fake.vit().state_dict())
    del state["norm.bias"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(
        DataError, match=r"1 missing: norm\.bias(.|\n)*blocks \(24\)(.|\n)*names of timm"
    ):
        diagnose(str(tmp_path / "x.pth"))


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as error:
        diagnose(str(tmp_path / "no.pth"))
    assert "What the file holds" not in str(error.value)
    with pytest.raises(UsageError):
        diagnose("timm:")
