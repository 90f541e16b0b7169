"""Checkpoints: any release's file, or a URI, becomes an encoder that is what it claims to be.

    encoder = checkpoints.load("dino_vits16.pth")
    encoder.info.network, encoder.info.details["heads"]

One way, downwards: `read` (nothing in a file is executed) -> `recognise` (whose is it, which network) ->
`infer` (every number of the architecture) -> `encoders.build` -> `verify` (every tensor, nothing else).
"""

from typing import Any

from sdssl_bench import encoders
from sdssl_bench.checkpoints.colours import RELEASES, given_colours, hints_of, read_colours
from sdssl_bench.checkpoints.freshness import UNTRAINED
from sdssl_bench.checkpoints.infer import Config, infer
from sdssl_bench.checkpoints.options import CLS, Options
from sdssl_bench.checkpoints.read import Contents, read
from sdssl_bench.checkpoints.recognise import Release, recognise
from sdssl_bench.checkpoints.verify import Report, verify
from sdssl_bench.encoders import COLOURS, PATCH_MEAN, Encoder, ModelInfo, ViTEncoder, colours_for

CLS_NEVER_TRAINED = dict.fromkeys(("mae", "vit_mae"), "MAE's loss never sees it")
"""Format, model_type of transformers, or tag of timm's weights -> why its class token tells nothing."""


def load(uri: str, **options: Any) -> Encoder:
    """The frozen encoder a checkpoint holds, in eval mode, with `info` saying exactly what it is.

    Args:
        uri: a file or folder, `hf:ORG/NAME[@revision]`, `timm:NAME[?pretrained=false&seed=0&img_size=N]`
            or `custom:file.py:function`.
        **options: fields of `options.Options`: network, arch, heads, patch_size, img_size, norm, cls,
            mean, std.

    Raises:
        DataError: if the weights are missing, damaged, not trusted or do not fit; random weights
            never take their place.
        UsageError: if an option is wrong, contradicts the checkpoint or would have no effect.
    """
    return encoder_of(read(str(uri)), Options(**options)).encoder


def encoder_of(contents: Contents, options: Options) -> Report:
    """The way from what was read to the encoder, which knows its name, and what was proven of it.

    Raises: as `load`.
    """
    release = recognise(contents, options.network, options.arch)
    config = infer(release, options)
    encoder = encoders.build(config.architecture, norm=config.norm, img_size=config.img_size)
    source = _set_colours(encoder, contents, release, config=config, options=options)
    why = _set_cls(encoder, release, options)
    report = verify(encoder, release, config)
    name, details = contents.name, {**report.details, "colours_source": source, **why}
    if contents.revision is not None:
        details["revision"] = contents.revision
    if release.format == "custom":  # only builder and weights can say whether it was trained
        look = report.freshness.look
        details = {**details, "weights_look": look}
        if contents.pretrained is False:
            name += " untrained"
        elif look == UNTRAINED:
            name += " looks untrained"
    encoder.info = ModelInfo(
        name,
        contents.uri,
        release.format,
        release.network,
        report.arch,
        report.weights_sha256,
        contents.file.sha256() if contents.file else None,
        contents.pretrained,
        details,
    )
    encoder.eval().requires_grad_(False)
    return report


def _set_colours(
    encoder: Encoder, contents: Contents, release: Release, *, config: Config, options: Options
) -> str:
    """Gives the encoder its mean and std; says how they are known."""
    given = given_colours(options, len(encoder.mean))
    if given is not None:
        encoder.mean, encoder.std = given
        return "given"
    if config.colours is not None:
        encoder.mean, encoder.std = config.colours
        return "read from the file's header"
    hinted = read_colours(hints_of(contents.file))
    if hinted is not None:
        encoder.mean, encoder.std = colours_for(len(encoder.mean), hinted[0])
        return f"read from {hinted[1]}"
    if release.format in RELEASES:
        known = COLOURS[RELEASES[release.format]]
        encoder.mean, encoder.std = colours_for(len(encoder.mean), known)
        return "known of the release"
    if release.format == "timm" and contents.module is not None:
        return "read from timm's configuration"
    if isinstance(contents.module, Encoder):
        return "set by the encoder"
    return "assumed: timm's for this name" if options.arch else "assumed: ImageNet's"


def _set_cls(encoder: Encoder, release: Release, options: Options) -> dict[str, str]:
    """Lets the mean of patch tokens stand for a class token that was never trained; says why."""
    if options.cls is not None:
        encoder.take_cls(CLS[options.cls])
        return {"cls_why": "given"}
    tag = str(release.stated.get("arch", "")).rpartition(".")[2]
    names = (release.format, str(release.stated.get("model_type")), tag)
    why = next((CLS_NEVER_TRAINED[name] for name in names if name in CLS_NEVER_TRAINED), None)
    if why is None or not isinstance(encoder, ViTEncoder):
        return {}
    encoder.take_cls(PATCH_MEAN)
    return {"cls_why": why}
