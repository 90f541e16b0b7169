"""What accelerate brings along unasked: from its options, its configuration file or the environment.

`accelerate launch` hands all of them to the training process as variables, which its Accelerator obeys. A
setting that would train another model than the run's own settings say is an error; the rest is recorded.
"""

import os
from collections.abc import Mapping

from sdssl_bench.errors import UsageError
from sdssl_bench.pretrain.run.config import CHOICES

OFF = ("", "no", "none", "false", "0")


def check_launcher(precision: str, environ: Mapping[str, str] = os.environ) -> None:
    """Proves that the launcher and the run want the same.

    Args:
        precision: the run's.
        environ: variables of this process.

    Raises:
        UsageError: naming both settings and what to do.
    """
    # "no" is what the launcher says unasked.
    launched = environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", precision):
        same = f"add --mixed-precision {launched} behind main.py, or "
        raise UsageError(
            f"accelerate launch says --mixed_precision {launched}, the run's own setting is {precision}: "
            f"{same if launched in CHOICES['mixed_precision'] else ''}launch with --mixed_precision no."
        )
    steps = environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        raise UsageError(
            f"accelerate's gradient_accumulation_steps is {steps} (its option, its configuration file or "
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS), which would divide every loss by it: set it to 1. "
            "Slices of a step are --accumulate behind main.py."
        )
    backend = environ.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() not in OFF:
        raise UsageError(
            f"accelerate's dynamo_backend is {backend} (its option, its configuration file or "
            "ACCELERATE_DYNAMO_BACKEND); pretraining does not compile the model, so that runs are equal "
            "bit for bit: launch with --dynamo_backend no."
        )
    clipping = environ.get("ACCELERATE_GRADIENT_CLIPPING", "none")
    if clipping.lower() not in OFF:
        raise UsageError(
            f"accelerate's gradient_clipping is {clipping} (its configuration file or "
            "ACCELERATE_GRADIENT_CLIPPING); no recipe clips gradients: unset it."
        )


def brought_along(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Every variable that a launcher set for accelerate, for the run's log."""
    return {name: environ[name] for name in sorted(environ) if name.startswith("ACCELERATE_")}
