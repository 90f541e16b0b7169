"""A style of names that another package adds is known like a built-in one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.errors import UsageError
from sdssl_bench.system import load_plugin, plugins

MODULE = """
import re
from timm.models.vision_transformer import VisionTransformer
from sdssl_bench.checkpoints import Style, Translated

def translate(state):
    return Translated({re.sub("^stuff", "", key): tensor for key, tensor in state.items()})

def build(found):
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1, num_classes=0)

STYLE = Style("stuffed", ("stuffpatch_embed.proj.weight",), "stuff.*", translate, build)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which packages are installed."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stuffed_names.py").write_text(MODULE)
    plugins.cache_clear()
    yield tmp_path
    plugins.cache_clear()
    load_plugin.cache_clear()


def install(folder: Path, name: str, value: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sdssl_bench.checkpoints]\n{name} = {value}\n")


def test_a_style_of_another_package_opens_its_files(package: Path) -> None:
    install(package, "stuffed", "stuffed_names:STYLE")
    model = fake.vit(1)
    torch.save({"net": fake.prefixed(model.state_dict(), "stuff")}, package / "x.pth")
    encoder = checkpoints.load(str(package / "x.pth"))
    assert encoder.info is not None
    assert encoder.info.format == "stuffed"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model.forward_features(images)[:, 0])


def test_a_taken_name_and_what_is_no_style_are_errors(package: Path) -> None:
    torch.save(fake.vit(1).state_dict(), package / "x.pth")
    install(package, "timm", "stuffed_names:STYLE")
    with pytest.raises(UsageError, match="Two checkpoint styles are called 'timm'"):
        checkpoints.load(str(package / "x.pth"))
    (package / "timm-1.0.dist-info" / "entry_points.txt").write_text(
        "[sdssl_bench.checkpoints]\nother = stuffed_names:MODULE\n"
    )
    plugins.cache_clear()
    with pytest.raises(UsageError, match="Expected a Style called 'other'"):
        checkpoints.load(str(package / "x.pth"))
