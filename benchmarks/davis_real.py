"""Real DAVIS-2016 sequences with binary masks, for `run --task davis`, and two objects against a union.

python benchmarks/davis_real.py convert DAVIS2016 OUT
writes OUT in the layout of DAVIS-2017: the foreground (above 127) becomes object 1. Then
sdssl-bench run --task davis --dataset folder:OUT --ckpt CHECKPOINT --all-layers --strips PICTURES

python benchmarks/davis_real.py union OUT SEQUENCE FIRST_MASK CHECKPOINT [--layers 12] [--frames N]
propagates the objects of a palette mask of frame 0 and scores the union of all objects against
the binary annotation, for sequences of which only the union has ground truth.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from sdssl_bench import checkpoints, tasks
from sdssl_bench.datasets.readers.davis import read_video
from sdssl_bench.datasets.readers.palette import read_mask, write_mask
from sdssl_bench.encoders.encoder import parse_layers
from sdssl_bench.metrics.region_boundary import score_frame
from sdssl_bench.video.segmentation import Segmenter
from sdssl_bench.video.strips import overlay, shown_frames, strip, write_strip
from sdssl_bench.video.summary import SequenceScores, summarise


def convert(source: Path, out: Path) -> None:
    annotations = next(source.glob("Annotations*")) / "480p"
    names = sorted(p.name for p in annotations.iterdir() if p.is_dir())
    for name in names:
        frames = out / "JPEGImages" / "480p" / name
        shutil.copytree(source / "JPEGImages" / "480p" / name, frames, dirs_exist_ok=True)
        masks = out / "Annotations" / "480p" / name
        masks.mkdir(parents=True, exist_ok=True)
        for path in sorted((annotations / name).glob("*.png")):
            foreground = np.asarray(Image.open(path).convert("L")) > 127
            write_mask(masks / path.name, foreground.astype(np.uint8))
    print(f"wrote {len(names)} sequences to {out}: {', '.join(names)}")


def union(args: argparse.Namespace) -> None:
    video = read_video(args.out, args.sequence)
    objects = int(read_mask(args.first_mask).max())
    count = min(args.frames or len(video.frames), len(video.frames))
    video = replace(
        video,
        frames=video.frames[:count],
        masks=(args.first_mask, *video.masks[1:count]),
        num_objects=objects,
    )
    encoder = checkpoints.load(args.checkpoint)
    layers = parse_layers(args.layers, encoder.depth)
    settings = tasks.load("davis").settings
    segmenter = Segmenter(encoder, layers, settings=settings, device=args.device, num_workers=1)
    values: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
    shown = shown_frames(count)
    rows: dict[str, list[Image.Image]] = {}
    for frame in segmenter.segment(video):
        truth = read_mask(video.masks[frame.index])
        for layer, mask in frame.masks.items():
            if frame.index < count - 1:
                values[layer].append(score_frame(mask > 0, truth > 0, 1))
            if frame.index in shown:
                rows.setdefault(f"layer {layer}", []).append(overlay(frame.pixels, mask))
    for layer in layers:
        scores = summarise([SequenceScores(args.sequence, np.stack(values[layer], axis=-1))])
        print(
            f"{args.sequence}, {count} frames, union of {objects} objects, layer {layer}: "
            f"J {100 * scores['J-Mean']:.1f}, F {100 * scores['F-Mean']:.1f}"
        )
    if args.strip:
        write_strip(args.strip, strip(rows, [t for t in shown if t], title=args.sequence))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    first = parts.add_parser("convert")
    first.add_argument("source", type=Path)
    first.add_argument("out", type=Path)
    second = parts.add_parser("union")
    second.add_argument("out", type=Path)
    second.add_argument("sequence")
    second.add_argument("first_mask", type=Path)
    second.add_argument("checkpoint")
    second.add_argument("--layers", default="12")
    second.add_argument("--frames", type=int)
    second.add_argument("--strip", type=Path)
    second.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.part == "convert":
        convert(args.source, args.out)
    else:
        union(args)


if __name__ == "__main__":
    main()
