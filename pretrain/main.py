"""`sdssl-bench pretrain` as a script, for launchers.

accelerate launch pretrain/main.py --preset sd_mocov3_vit_s16 --data imagenet/train --out runs/a
accelerate launch -m sdssl_bench.pretrain.main ...         (installed)
python pretrain/main.py                                    (lists the presets)
"""

import sys
from pathlib import Path

if __package__ in (None, ""):  # accelerate launch puts pretrain/, not the checkout, on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sdssl_bench.cli import start

if __name__ == "__main__":
    start("pretrain")
