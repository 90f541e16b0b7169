"""Where the time of a feature extraction goes, stage by stage.

    python benchmarks/extraction.py --dataset folder:CIFAR10 --encoder vit_tiny_p8_32 --most 0.25
    python benchmarks/extraction.py --dataset imagenet --data-root ROOT --allow-partial \
        --encoder vit_small_patch14.safetensors --most 0.10

Every layer's class token of one split, into a cache that is thrown away. Prints seconds of loading
(read, decode, resize, crop), transfer (to the device, normalise), the encoder's forward pass, writing
(check, banks, journal) and the rest (digests, locks, manifests), and the share of all but the forward
pass.
"""

import argparse
import tempfile
from pathlib import Path

import sdssl_bench
from sdssl_bench import api, datasets, encoders
from sdssl_bench.datasets.transforms import preprocess
from sdssl_bench.features.extraction import extract
from sdssl_bench.system.progress import Progress
from sdssl_bench.task import RunContext


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--allow-partial", action="store_true")
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument(
        "--encoder", required=True, help="a checkpoint, or a name to build untrained"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--num-workers", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--points", default="block", help="in a block, such as block,attention,mlp")
    parser.add_argument("--most", type=float, help="largest share outside the forward pass")
    options = parser.parse_args()
    if options.encoder in encoders.NAMES:
        encoder = api.as_encoder(encoders.build(options.encoder), name=options.encoder)
    else:
        encoder = sdssl_bench.load_encoder(options.encoder)
    data = datasets.load(
        options.dataset, data_root=options.data_root, allow_partial=options.allow_partial
    )
    images = getattr(data, options.split)
    with tempfile.TemporaryDirectory() as cache, Progress() as progress:
        ctx = RunContext(
            data_root=options.data_root,
            cache_dir=Path(cache),
            device=options.device,
            dtype=options.dtype,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            limit=options.limit,
            progress=progress,
        )
        steps = preprocess("A", encoder.input_size)
        layers = range(1, encoder.depth + 1)
        first = encoder.at_points(options.points.split(","))[0]
        bank = extract(first, images, layers, preprocess=steps, ctx=ctx)
    total, count = bank.seconds["total"], len(bank.targets)
    stages = {name: value for name, value in bank.seconds.items() if name != "total"}
    stages["rest"] = total - sum(stages.values())
    for name, value in stages.items():
        print(
            f"{name:10} {value:9.2f} s {100 * value / total:6.1f} % {1e3 * value / count:9.3f} ms/image"
        )
    outside = 1 - stages["forward"] / total
    print(f"{'total':10} {total:9.2f} s  for {count:,} images, {count / total:,.1f}/s")
    target = "" if options.most is None else f"   (target: at most {100 * options.most:.0f} %)"
    print(f"outside the forward pass: {100 * outside:.1f} %{target}")


if __name__ == "__main__":
    main()
