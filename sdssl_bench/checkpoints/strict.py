"""Strict key matching: every tensor of the backbone, in name and shape, and nothing else."""

from collections.abc import Mapping

from torch import Tensor

from sdssl_bench.checkpoints.keys import listing
from sdssl_bench.errors import DataError


def check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], *, source: str) -> None:
    """Proves that a state dict fits a backbone exactly.

    Args:
        expected: the backbone's own state dict.
        state: the checkpoint's tensors under the same names.
        source: what error messages call the checkpoint.

    Raises:
        DataError: listing missing, unexpected and mismatched keys, and the coverage.
    """
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    mismatched = [
        f"{key} (expected {tuple(expected[key].shape)}, found {tuple(state[key].shape)})"
        for key in sorted(expected.keys() & state.keys())
        if expected[key].shape != state[key].shape
    ]
    if not (missing or unexpected or mismatched):
        return
    fitting = len(expected) - len(missing) - len(mismatched)
    lines = [
        f"{source} does not fit its architecture: {fitting} of {len(expected)} backbone tensors "
        f"({100 * fitting / max(1, len(expected)):.1f} %) are covered, expected 100 % and no others."
    ]
    for title, names in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", mismatched),
    ):
        if names:
            lines.append(f"  {len(names)} {title}: {listing(names)}")
    lines.append(
        "If it is of another architecture, name it with --arch (a timm name); otherwise the file "
        "is incomplete or not a plain backbone."
    )
    raise DataError("\n".join(lines))
