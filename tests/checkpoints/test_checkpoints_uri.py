"""--ckpt takes files, timm: and custom: URIs; everything else is refused with advice."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

import fake_checkpoints as fake
from records import head
from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.doctor import diagnose
from sdssl_bench.checkpoints.read import parse
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.records.titles import record_title

TINY = "timm:vit_tiny_patch16_224?pretrained=false"


@pytest.mark.parametrize(
    ("text", "scheme", "target"),
    [
        ("x.pth", "file", "x.pth"),
        ("~/x.pth", "file", "~/x.pth"),
        ("/a/b.ckpt", "file", "/a/b.ckpt"),
        ("file:///a/b.ckpt", "file", "/a/b.ckpt"),
        ("timm:resnet50", "timm", "resnet50"),
        ("custom:a/b.py:build", "custom", "a/b.py:build"),
        ("C:weights.pth", "file", "C:weights.pth"),
    ],
)
def test_schemes(text: str, scheme: str, target: str) -> None:
    uri = parse(text)
    assert (uri.scheme, uri.target) == (scheme, target)


def test_a_home_path_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fake.plain(tmp_path / "x.pth", fake.vit())
    assert checkpoints.load("~/x.pth").depth == 2


def test_an_existing_file_wins_over_a_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake.plain(tmp_path / "timm:odd.pth", fake.vit())
    assert checkpoints.load("timm:odd.pth").depth == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("tim:resnet50", "Unknown checkpoint scheme 'tim'. Did you mean 'timm'"),
        ("hub:facebook/dino", "Unknown checkpoint scheme 'hub'"),
        ("timm:", "needs a model name"),
        ("timm:resnet50?sed=1", "Unknown key of a timm: URI 'sed'. Did you mean 'seed'"),
        ("timm:resnet50?seed=1&seed=2", "'seed' needs one value"),
        ("timm:resnet50?seed=", "'seed' needs one value"),
        ("timm:resnet50?seed", "'seed' needs one value"),
        (f"{TINY}&seed=-1", "seed takes a non-negative integer"),
        ("timm:resnet50?pretrained=maybe", "pretrained takes true or false"),
        ("timm:resnet18?seed=1", "seed= would have no effect on pretrained weights"),
        ("timm:vit_smal_patch16_224", "has no model 'vit_smal_patch16_224'. Did you mean"),
        ("custom:model.py", "Expected custom:file.py:function"),
    ],
)
def test_malformed_uris(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checkpoints.load(text)


# --- timm -----------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that takes connections and then fails."""

    def fail(*_arguments: Any, **_keywords: Any) -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("sdssl_bench.checkpoints.modules.check_reachable", lambda *_: None)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", fail, raising=False)


@pytest.mark.usefixtures("offline")
def test_weights_that_cannot_be_downloaded_are_a_data_error_and_never_random() -> None:
    with pytest.raises(
        DataError, match=r"ConnectionError(.|\n)*never used in their place"
    ) as error:
        checkpoints.load("timm:vit_tiny_patch16_224")
    assert error.value.exit_code == 3


@pytest.mark.usefixtures("offline")
def test_an_unknown_weights_tag_is_a_usage_error_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'din'. Did you mean 'dino'"):
        checkpoints.load("timm:vit_small_patch16_224.din")


def test_an_untrained_encoder_is_labelled_and_depends_on_its_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = checkpoints.load(f"{TINY}&seed=0")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = checkpoints.load(TINY), checkpoints.load(f"{TINY}&seed=1")
    infos = [encoder.info for encoder in (first, again, other)]
    assert all(info is not None and not info.pretrained for info in infos)
    assert "untrained" in str(infos[0])
    digests = [info.weights_sha256 for info in infos if info is not None]
    assert digests[0] == digests[1] != digests[2]
    assert infos[0] is not None
    assert infos[0].file_sha256 is None


def test_timm_options() -> None:
    encoder = checkpoints.load(f"{TINY}&img_size=64", heads=3, patch_size=16, norm="identity")
    assert (encoder.input_size, encoder.norm) == (64, "identity")
    for options, message in (
        ({"heads": 6}, "--heads 6 contradicts"),
        ({"network": "teacher"}, "--network would have no effect"),
        ({"arch": "resnet50"}, "--arch would have no effect"),
        ({"img_size": 96}, "contradicts img_size=64"),
    ):
        with pytest.raises(UsageError, match=message):
            checkpoints.load(f"{TINY}&img_size=64", **options)  # type: ignore[arg-type]


def test_cached_weights_are_loaded_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the hub's own layout; of a model whose other source is no state dict but a file of JAX."""
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    snapshot = tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1")
    save_file(model.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("asked"))
    encoder = checkpoints.load("timm:vit_tiny_patch16_224.augreg_in21k")
    assert encoder.info is not None
    assert (encoder.info.pretrained, encoder.info.format) == (True, "timm")
    assert encoder.info.name == "vit_tiny_patch16_224.augreg_in21k"
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(encoder(images), model.eval().forward_features(images)[:, 0])


def test_a_model_without_trained_weights_is_told_from_one_that_is_out_of_reach() -> None:
    with pytest.raises(UsageError, match="no trained weights of vit_base_patch16_18x2_224"):
        checkpoints.load("timm:vit_base_patch16_18x2_224")


# --- custom ---------------------------------------------------------------------------------------

SOURCE = """
import torch
from timm.models.vision_transformer import VisionTransformer

def build():
    torch.manual_seed(3)
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=0)

def finished():
    from sdssl_bench import encoders
    return encoders.wrap(build())

def broken():
    return {}["missing"]

def nothing():
    return 3

def residual():
    from torchvision.models import resnet18
    torch.manual_seed(3)
    return resnet18(zero_init_residual=True)

def trained():
    model = residual()
    torch.manual_seed(4)
    for parameter in model.parameters():
        rows = torch.randn(len(parameter), *[1] * (parameter.ndim - 1))
        parameter.data.mul_(1 + 0.2 * rows).add_(0.02 * torch.randn_like(parameter))
    return model

def says_so():
    model = trained()
    model.pretrained = True
    return model

def says_not():
    model = build()
    model.pretrained = False
    return model

def claims():
    model = residual()
    model.pretrained = True
    return model

def uncopied():
    model = trained()
    model.conv1 = torch.nn.utils.weight_norm(model.conv1)
    return model

def leaves():
    raise SystemExit(0)
"""


@pytest.fixture
def custom(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "my_model.py"
    path.write_text(SOURCE)
    before = list(sys.path)
    yield f"custom:{path}"
    assert sys.path == before


def test_custom_modules_and_encoders(custom: str) -> None:
    built, finished = checkpoints.load(f"{custom}:build"), checkpoints.load(f"{custom}:finished")
    assert built.info is not None
    assert finished.info is not None
    assert (built.info.format, built.info.name) == ("custom", "my_model:build looks untrained")
    assert built.info.weights_sha256 == finished.info.weights_sha256
    assert built.info.details["heads"] == 3
    assert not built.training
    assert checkpoints.load(f"{custom}:build", img_size=64, norm="none").norm == "none"


@pytest.mark.parametrize(
    ("function", "pretrained", "look", "name", "title", "warning"),
    [
        (
            "residual",
            "unknown",
            "untrained",
            " looks untrained",
            "LOOKS UNTRAINED",
            "look untrained",
        ),
        ("trained", "unknown", "trained", "", "", ""),
        ("says_so", True, "trained", "", "", ""),
        ("says_not", False, "untrained", " untrained", "UNTRAINED", "as asked for"),
        ("claims", True, "untrained", " looks untrained", "LOOKS UNTRAINED", "look untrained"),
    ],
)
def test_nobody_knows_whether_a_custom_encoder_is_trained_but_its_builder_and_its_weights(
    custom: str, function: str, pretrained: object, look: str, name: str, title: str, warning: str
) -> None:
    found = diagnose(f"{custom}:{function}")
    model = asdict(found.model)
    assert model["pretrained"] is pretrained or model["pretrained"] == pretrained == "unknown"
    assert model["details"]["weights_look"] == look == found.weights
    assert model["name"] == f"my_model:{function}{name}"
    marks = [
        part
        for part in record_title(head(model=model | {"norm": "none"})).split(" · ")
        if part.isupper()
    ]
    assert marks == [title] * bool(title)
    assert any(warning in line for line in found.warnings) if warning else not found.warnings


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_module_that_cannot_be_copied_is_not_compared(custom: str) -> None:
    found = diagnose(f"{custom}:uncopied")
    assert found.weights.startswith("not compared (RuntimeError: ")
    assert found.model.pretrained == "unknown"


@pytest.mark.parametrize(
    ("function", "options", "kind", "message"),
    [
        (
            "biuld",
            {},
            UsageError,
            r"Unknown function of my_model\.py 'biuld'. Did you mean 'build'",
        ),
        ("nothing", {}, UsageError, "returned int"),
        ("broken", {}, DataError, r"failed at .*my_model\.py:14: KeyError: 'missing'"),
        ("leaves", {}, DataError, r"failed at .*my_model\.py:\d+: SystemExit: 0"),
        ("build", {"heads": 6}, UsageError, "--heads 6 contradicts"),
        ("build", {"network": "teacher"}, UsageError, "--network would have no effect"),
        ("finished", {"norm": "none"}, UsageError, "--norm would have no effect"),
    ],
)
def test_custom_errors(
    custom: str, function: str, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        checkpoints.load(f"{custom}:{function}", **options)


def test_a_missing_custom_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        checkpoints.load(f"custom:{tmp_path / 'no.py'}:build")
