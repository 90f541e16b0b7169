"""Checkpoints: any release's file, or a URI, becomes an encoder that is what it claims to be.

    encoder = checkpoints.load("dino_vits16.pth")
    encoder.info.network, encoder.info.details["heads"]

Reading never executes anything (`reading`), the format is told by its keys (`formats`), the
architecture by shapes (`infer`), the head count by release or by the user (`heads`), and every
backbone tensor must match (`strict`).
"""

from pathlib import Path

from sdssl_bench.checkpoints.build import Loaded, facts
from sdssl_bench.checkpoints.digests import digest_of_module, digest_of_state
from sdssl_bench.checkpoints.files import load_file
from sdssl_bench.checkpoints.native import save
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.reading import file_sha256
from sdssl_bench.checkpoints.sources import load_custom, load_timm
from sdssl_bench.checkpoints.uri import parse
from sdssl_bench.encoder import Encoder, ModelInfo

__all__ = ["digest_of_module", "digest_of_state", "file_sha256", "load", "save"]

_GENERIC = {
    "encoder",
    "checkpoint",
    "checkpoint_teacher",
    "checkpoint_student",
    "checkpoint_key",
    "model",
}
_GENERIC |= {"last", "best", "latest", "final", "ckpt", "weights", "pytorch_model", "teacher"}


def load(
    uri: str,
    *,
    network: str | None = None,
    arch: str | None = None,
    heads: int | None = None,
    patch_size: int | None = None,
    img_size: int | None = None,
    norm: str | None = None,
) -> Encoder:
    """The frozen encoder a checkpoint holds, in eval mode, with `info` saying exactly what it is.

    Args:
        uri: a file, `timm:NAME[?pretrained=false&seed=0&img_size=N]` or `custom:file.py:function`.
        network: which network of the checkpoint; None = the one its authors evaluate.
        arch: name for `backbones.build`, where the architecture cannot be inferred.
        heads: attention heads, where they cannot be known.
        patch_size: in pixels; must agree with the weights.
        img_size: side of the evaluated images in pixels.
        norm: of layers 1..L-1, see `encoder.NORMS`; None = the format's own convention.

    Raises:
        DataError: if the weights are missing, damaged, not trusted or do not fit; random weights
            never take their place.
        UsageError: if an option is wrong, contradicts the checkpoint or would have no effect.
    """
    options = Options(network, arch, heads, patch_size, img_size, norm)
    parsed = parse(str(uri))
    path: Path | None = None
    if parsed.scheme == "timm":
        loaded = load_timm(parsed, options)
    elif parsed.scheme == "custom":
        loaded = load_custom(parsed, options)
    else:
        path = parsed.path
        loaded = load_file(path, options)
    return _finish(loaded, str(uri), path)


def _finish(loaded: Loaded, uri: str, path: Path | None) -> Encoder:
    encoder = loaded.encoder.eval().requires_grad_(False)
    encoder.info = ModelInfo(
        name=loaded.name or (_name(path, loaded.format) if path else uri),
        uri=uri,
        format=loaded.format,
        network=loaded.network,
        arch=loaded.arch,
        weights_sha256=digest_of_module(encoder),
        file_sha256=file_sha256(path) if path else None,
        pretrained=loaded.pretrained,
        details={**facts(encoder), **loaded.details},
    )
    return encoder


def _name(path: Path, form: str) -> str:
    """The file's stem; a stem that says nothing gets its folder's name before it.

    Encoders of a pretraining run have the run's name: the last one that alone, those on the way before
    their epoch. Runs of the same name are told apart by their digests.
    """
    name = path.name.removesuffix(".tar")
    stem = name.rpartition(".")[0] or name
    parent = path.resolve().parent
    folder = parent.name
    if form == "sdssl-bench" and stem == "encoder" and folder:
        return folder
    if folder == "encoders" and stem.startswith("epoch-") and parent.parent.name:
        return f"{parent.parent.name}/{stem}"
    return f"{folder}/{stem}" if stem.lower() in _GENERIC and folder else stem
