"""Extracts features of plain images as a process of its own, to be killed, doubled or launched.

python tests/extract_job.py CACHE '{"images": 300, "layers": [1, 2], "pause": 0.01, ...}'
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from fakes import FakeEncoder, Pixels, plain_images  # noqa: E402
from sdssl_bench.errors import UserError  # noqa: E402
from sdssl_bench.features import passes  # noqa: E402
from sdssl_bench.features.extraction import extract  # noqa: E402
from sdssl_bench.system.distributed import is_main_process, process_index  # noqa: E402
from sdssl_bench.system.progress import Progress  # noqa: E402
from sdssl_bench.task import RunContext  # noqa: E402


class SlowEncoder(FakeEncoder):
    """Takes its time; may fail in one process only."""

    def __init__(self, pause: float, fails_in: int | None, how: str) -> None:
        super().__init__()
        self._pause, self._fails_in, self._how = pause, fails_in, how

    def forward_layers(self, images: Tensor, layers: Any, reduce: Any) -> dict[int, Any]:
        time.sleep(self._pause)
        if process_index() == self._fails_in and self._how == "bug":
            raise ZeroDivisionError("a bug in one process")
        if process_index() == self._fails_in and self._how == "nan":
            images = torch.full_like(images, torch.nan)
        return super().forward_layers(images, layers, reduce)


def main() -> int:
    cache, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    passes.FLUSH_SECONDS = job.get("flush", 0.0)
    encoder = SlowEncoder(job.get("pause", 0.0), job.get("fails_in"), job.get("how", "bug"))
    images = plain_images(job.get("images", 300), size=16)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ctx = RunContext(
        None, cache, device="cpu", batch_size=job.get("batch", 16), progress=Progress()
    )
    try:
        bank = extract(encoder, images, job.get("layers", [1, 2]), preprocess=Pixels(), ctx=ctx)
    except UserError as error:
        sys.stderr.write(f"error in {process_index()}: {error}\n")
        return error.exit_code
    if is_main_process():
        sys.stdout.write(json.dumps({"rows": len(bank.features(1)), "cached": bank.cached}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
