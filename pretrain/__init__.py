"""Self-supervised pretraining of the paper's encoders: SimCLR, BYOL, MoCo v3, and SDSSL on each.

    accelerate launch pretrain/main.py --preset sd_mocov3_vit_s16 --data imagenet/train --out runs/a

Always imported as `sdssl_bench.pretrain`; `main.py` is the one file that is also a script.
"""
