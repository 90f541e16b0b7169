"""From --ckpt to the encoder there is one way, downwards; the doctor takes the same."""

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import fake_checkpoints as fake
from sdssl_bench import checkpoints, encoders
from sdssl_bench.checkpoints import doctor, loading
from sdssl_bench.encoders import ViTConfig
from sdssl_bench.errors import UsageError

ROOM = Path(loading.__file__).parent
INERT = ("mapped", "arrays", "restore", "torch_files", "distributed", "__init__")
ORDER = (
    "options", "keys", "hub", "released_weights", *(f"inert.{name}" for name in INERT), "files", "folders",
    "colours", "hugging_face", "modules", "native", "read", "gathering", "renaming", "vit_names",
    "family_names", "styles", "networks", "releases", "recognise",
    "heads", "config", "families", "infer", "freshness", "verify", "loading", "doctor", "diagnosis_text",
    "__init__",
)  # fmt: skip
STEPS = ("read", "recognise", "infer", "verify")
CUSTOM = """
from timm.models.vision_transformer import VisionTransformer

def build():
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=0)
"""


def test_every_file_of_the_room_imports_earlier_ones_only() -> None:
    files = {".".join(p.relative_to(ROOM).with_suffix("").parts): p for p in ROOM.rglob("*.py")}
    assert files.keys() == set(ORDER)
    for at, name in enumerate(ORDER):
        tree = ast.parse(files[name].read_text("utf-8"))
        modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        room = "sdssl_bench.checkpoints."
        inner = {m.removeprefix(room) for m in modules if m.startswith(room)}
        assert inner <= set(ORDER[:at]), name


@pytest.fixture(params=["release", "own", "timm", "custom"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One of each way in."""
    if request.param == "release":
        return str(fake.dino(tmp_path / "x.pth", fake.vit(1), fake.vit(2)))
    if request.param == "own":
        encoder = encoders.build(ViTConfig(48, 2, 3, 8, 32))
        return str(checkpoints.save(encoder, tmp_path / "x.safetensors"))
    if request.param == "timm":
        return "timm:vit_tiny_patch16_224?pretrained=false&img_size=32"
    (tmp_path / "model.py").write_text(CUSTOM)
    return f"custom:{tmp_path / 'model.py'}:build"


@pytest.mark.parametrize("goal", [loading.load, doctor.diagnose])
def test_every_way_in_takes_each_step_once(
    uri: str, goal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: Counter[str] = Counter()

    def count(place: Any, name: str) -> None:
        step = getattr(place, name)

        def counting(*arguments: Any, **keywords: Any) -> Any:
            taken[name] += 1
            return step(*arguments, **keywords)

        monkeypatch.setattr(place, name, counting)

    for name in STEPS:
        count(loading, name)
    monkeypatch.setattr(doctor, "read", loading.read)
    count(encoders, "build")
    goal(uri)
    assert taken == dict.fromkeys((*STEPS, "build"), 1)


def test_the_norm_of_a_resnet_is_refused_on_every_way(tmp_path: Path) -> None:
    own = checkpoints.save(encoders.build("resnet18"), tmp_path / "x.safetensors", arch="resnet18")
    (tmp_path / "model.py").write_text("from torchvision.models import resnet18 as build")
    for uri in (own, "timm:resnet18?pretrained=false", f"custom:{tmp_path / 'model.py'}:build"):
        assert checkpoints.load(str(uri), norm="none").norm == "none"
        with pytest.raises(UsageError, match="--norm would have no effect: a ResNet has no norm"):
            checkpoints.load(str(uri), norm="shared")
