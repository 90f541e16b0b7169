"""Controls compute what they say; any network becomes an encoder by the names of its parts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from davis_videos import blocks, context, write_video
from mini_data import shared_mini
from sdssl_bench import checkpoints, runner, tasks
from sdssl_bench.api import as_encoder
from sdssl_bench.encoders.building import wrap
from sdssl_bench.encoders.controls import Control
from sdssl_bench.encoders.encoder import cls
from sdssl_bench.encoders.hooked import HookedEncoder, Parts
from sdssl_bench.encoders.resnet import ResNetEncoder
from sdssl_bench.errors import UsageError
from sdssl_bench.features.identity import structure_digest
from sdssl_bench.probes.finetuning.tunable import Tunable, parameter_groups
from sdssl_bench.task import RunContext


def test_pixels_are_the_image_and_its_patches() -> None:
    x = torch.randn(2, 3, 32, 48)
    found = Control("pixels").forward_layers(x, [1])[1]
    square = torch.randn(2, 3, 16, 16)
    assert torch.equal(Control("pixels")(square), square.flatten(1)), "an image of 16 px is itself"
    assert found.patches.shape == (2, 2, 3, 768)
    assert torch.equal(found.patches[1, 0, 2], x[1, :, :16, 32:].flatten())


def test_statistics_are_numpys() -> None:
    x = torch.rand(2, 3, 32, 16)
    found = Control("statistics").forward_layers(x, [1])[1]
    for values, vector in (
        (x[0].flatten(1), found.cls[0]),
        (x[1, :, 16:].flatten(1), found.patches[1, 1, 0]),
    ):
        v = values.double().numpy()
        shares = [np.histogram(c, bins=8, range=(0, 1))[0] / c.size for c in v]
        expected = np.concatenate([v.mean(1), v.var(1), np.ravel(shares)])
        np.testing.assert_allclose(vector.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["pixels", pytest.param("statistics", marks=pytest.mark.slow)])
def test_controls_serve_every_kind_of_task(tmp_path: Path, kind: str) -> None:
    encoder = checkpoints.load(f"control:{kind}")
    assert encoder.info is not None
    assert (encoder.info.name, encoder.info.pretrained) == (f"control:{kind}", False)
    write_video(tmp_path / "v", "clip", blocks((6, 9), 4, patch=16))
    ctx = RunContext(shared_mini(), tmp_path)
    for name, dataset, protocol, changes in (
        ("knn", "cifar10", None, {}),
        ("linear", "flowers", "logreg", {}),
        ("retrieval", "roxford5k", None, {"imsize_oxford": "64"}),
        ("davis", f"folder:{tmp_path / 'v'}", None, {"short_side": "0"}),
    ):
        task = tasks.load(name, protocol, changes)
        where = context(tmp_path) if name == "davis" else ctx
        record = runner.run(encoder, task, dataset, layers=[1], ctx=where, store=None).record
        assert 0 < record["layers"]["1"]["metrics"][record["headline"]] <= 1
    tuned = Tunable(encoder, 1, num_classes=3, drop_path=0.0, seed=0)
    tuned(torch.rand(2, 3, 32, 32)).sum().backward()
    assert len(parameter_groups(tuned, lr=1.0, weight_decay=0.1, layer_decay=0.5)) == 2


def test_pixels_tell_bright_from_dark(tmp_path: Path) -> None:
    """Nearest neighbours of plain images are those of their colour."""
    for split in ("train", "test"):
        for name, level in (("dark", 40), ("light", 200)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4):
                image = Image.new("RGB", (32, 32), (level + i,) * 3)
                image.save(tmp_path / split / name / f"{i}.png")
    encoder = checkpoints.load("control:pixels")
    task = tasks.load("knn", None, {"k": "3", "headline_k": "3"})
    ctx = RunContext(None, tmp_path / "cache")
    record = runner.run(encoder, task, f"folder:{tmp_path}", layers=[1], ctx=ctx, store=None).record
    assert record["layers"]["1"]["metrics"]["k3/top1"] == 1.0


def test_controls_are_told_apart_and_take_no_options() -> None:
    assert structure_digest(Control("pixels")) != structure_digest(Control("statistics"))
    with pytest.raises(UsageError, match="Did you mean 'pixels'"):
        checkpoints.load("control:pixel")
    with pytest.raises(UsageError, match="a control is what it is"):
        checkpoints.load("control:pixels", arch="resnet18")
    with pytest.raises(UsageError, match="multiples of 16"):
        Control("pixels").check_size(30, 32)


def test_rows_of_controls_say_so() -> None:
    from sdssl_bench.reports.leaderboard import _control

    frame = pd.DataFrame(
        {"model": ["a", "b", "control:pixels", "c"], "pretrained": [True, False, False, "unknown"]}
    )
    assert list(_control(frame)) == ["", " (control)", "", ""]


STAGES = ["layer1", "layer2", "layer3", "layer4"]


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


def test_layers_are_named_in_the_order_in_which_they_run() -> None:
    with pytest.raises(UsageError, match=r"in the order layer1, layer2, layer3\."):
        wrap(Parts(resnet(), ["layer3", "layer1", "layer2"]), img_size=64)


def test_the_parts_of_a_resnet_are_its_stages() -> None:
    model, x = resnet(), torch.randn(2, 3, 64, 96)
    ours = wrap(Parts(model, STAGES), img_size=64)
    theirs = ResNetEncoder(model, input_size=64)
    assert isinstance(ours, HookedEncoder)
    assert (ours.dims, ours.stride, ours.strides) == (theirs.dims, 32, (4, 8, 16, 32))
    with torch.no_grad():
        expected = theirs.forward_layers(x, [1, 2, 3, 4])
        found = ours.forward_layers(x, [1, 3, 4])
    for layer, one in found.items():
        assert torch.equal(one.cls, expected[layer].cls)
        assert torch.equal(one.patches, expected[layer].patches)
    assert not any(module._forward_hooks for module in model.modules())


class Tokens(nn.Module):
    """Patches of 8 px through blocks, with a class token or without, then a vector."""

    def __init__(self, class_token: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 12)) if class_token else None
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


@pytest.mark.parametrize("class_token", [True, False])
def test_tokens_find_their_grid_and_their_class_token(class_token: bool) -> None:
    torch.manual_seed(0)
    model = Tokens(class_token).eval()
    encoder = wrap(Parts(model, ["blocks.0", "blocks.2", "head"]), img_size=32)
    x = torch.randn(2, 3, 24, 40)
    with torch.no_grad():
        found = encoder.forward_layers(x, [1, 3])
        tokens = model.embed(x).flatten(2).mT
        first = model.blocks[0](tokens).unflatten(1, (3, 5))
        torch.testing.assert_close(found[1].patches, first)
        token = model.blocks[0](model.token.expand(2, -1, -1))[:, 0] if class_token else None
        torch.testing.assert_close(found[1].cls, first.mean((1, 2)) if token is None else token)
        assert torch.equal(found[3].cls, model(x))
    assert found[3].patches.shape == (2, 1, 1, 5)


def test_a_cut_network_trains_what_takes_part_and_stops_early() -> None:
    encoder = wrap(Parts(resnet(), STAGES), img_size=64)
    short = encoder.truncate(2)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(short.eval()(x), encoder.forward_layers(x, [2], cls)[2])
    ran = []
    short.model.layer3.register_forward_hook(lambda *_: ran.append(1))
    short(x).sum().backward()
    assert not ran
    for name, parameter in short.named_parameters():
        taking_part = name.split(".")[1] in ("conv1", "bn1", "layer1", "layer2")
        assert parameter.requires_grad == taking_part == (parameter.grad is not None), name


def written(tmp_path: Path, layers: str, body: str = "torchvision.models.resnet18()") -> str:
    path = tmp_path / "mine.py"
    path.write_text(f"import torch, torchvision\n{layers}\ndef build():\n    return {body}\n")
    return f"custom:{path}:build"


def test_one_line_makes_any_network_an_encoder(tmp_path: Path) -> None:
    encoder = checkpoints.load(written(tmp_path, f"layers = {STAGES}"), img_size=64, mean="half")
    assert encoder.info is not None
    assert (encoder.depth, encoder.input_size, encoder.mean) == (4, 64, (0.5, 0.5, 0.5))
    assert encoder.info.details["stages"] == STAGES
    assert encoder.info.details["colours_source"] == "given"
    task = tasks.load("knn", None, {"k": "2", "headline_k": "2"})
    ctx = RunContext(shared_mini(), tmp_path, limit=8)
    record = runner.run(encoder, task, "cifar10", layers=[1, 4], ctx=ctx, store=None).record
    assert set(record["layers"]) == {"1", "4"}


@pytest.mark.parametrize(
    ("layers", "body", "words"),
    [
        ('layers = ["layer9"]', "torchvision.models.resnet18()", "Did you mean 'layer4'.*maxpool, relu"),
        ("layers = []", "torchvision.models.resnet18()", "part of ResNet"),
        ("layers = 4", "torchvision.models.resnet18()", "is a list of names"),
        ('layers = ["layer2", "layer1"]', "torchvision.models.resnet18()", "order layer1, layer2"),
        ('layers = ["layer1.0.relu"]', "torchvision.models.resnet18()", "more than once"),
        ('layers = ["0"]', "torch.nn.Sequential(torch.nn.Flatten(0))", "expected maps"),
        ("", "torch.nn.Linear(3, 3)", r'layers = \["stage1", "stage2"\]'),
    ],
)  # fmt: skip
def test_layers_that_are_none_are_refused(
    tmp_path: Path, layers: str, body: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        checkpoints.load(written(tmp_path, layers, body), img_size=32)


def test_a_size_that_the_network_cannot_take_is_said_before() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(4 * 64, 7))
    encoder = as_encoder(wrap(Parts(model, ["0", "2"]), img_size=32))
    encoder.check_size(32, 32)
    with pytest.raises(UsageError, match="does not take images of 64 x 32"):
        encoder.check_size(64, 32)
