"""Checkpoints: any release's file, or a URI, becomes an encoder that is what it claims to be.

    encoder = checkpoints.load("dino_vits16.pth")
    encoder.info.network, encoder.info.details["heads"]

One way, downwards: `read` (nothing in a file is executed) -> `recognise` (whose is it, which network) ->
`infer` (every number of the architecture) -> `encoders.build` -> `verify` (every tensor, nothing else).
"""

from sdssl_bench import encoders
from sdssl_bench.checkpoints.files import file_sha256
from sdssl_bench.checkpoints.freshness import UNTRAINED
from sdssl_bench.checkpoints.infer import infer
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.read import Contents, read
from sdssl_bench.checkpoints.recognise import recognise
from sdssl_bench.checkpoints.verify import Report, verify
from sdssl_bench.encoders import Encoder, ModelInfo


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
        arch: name for `encoders.build`, where the architecture cannot be inferred.
        heads: attention heads, where they cannot be known.
        patch_size: in pixels; must agree with the weights.
        img_size: side of the evaluated images in pixels.
        norm: of layers 1..L-1, see `encoders.NORMS`; None = the format's own convention.

    Raises:
        DataError: if the weights are missing, damaged, not trusted or do not fit; random weights
            never take their place.
        UsageError: if an option is wrong, contradicts the checkpoint or would have no effect.
    """
    options = Options(network, arch, heads, patch_size, img_size, norm)
    return encoder_of(read(str(uri)), options).encoder


def encoder_of(contents: Contents, options: Options) -> Report:
    """The way from what was read to the encoder, which knows its name, and what was proven of it.

    Raises: as `load`.
    """
    release = recognise(contents, options.network, options.arch)
    config = infer(release, options)
    encoder = encoders.build(config.architecture, norm=config.norm, img_size=config.img_size)
    if config.colours is not None:
        encoder.mean, encoder.std = config.colours
    report = verify(encoder, release, config)
    name, details = contents.name, report.details
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
        file_sha256(contents.file.path) if contents.file else None,
        contents.pretrained,
        details,
    )
    encoder.eval().requires_grad_(False)
    return report
