"""Video object segmentation on DAVIS-2017 by label propagation, all layers from one pass per frame.

The mask of the first frame is carried on by patch similarity alone: each patch takes the labels of its
nearest patches in the first frame and the frames just before (Jabri et al. 2020; constants of DINO's
evaluation). Scores: J (region), F (boundary), over objects, first and last frame left out.

    sdssl-bench run --task davis --ckpt dino_vits16.pth --all-layers

DINO ViT-S/16: 61.8 J&F-Mean at layer 12 (Caron et al. 2021, Table 5).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sdssl_bench.datasets import sets_of
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.parameters import WHEN_SET, Argument, FileScores, recorded_parameters
from sdssl_bench.system import Work
from sdssl_bench.task import (
    DatasetInfo,
    LayerScores,
    Option,
    RunContext,
    Trial,
    limited_indices,
)
from sdssl_bench.task import Task as Contract

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sdssl_bench.datasets import DavisData, Video
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.video import Settings, VideoScorer


def score_files(
    predictions: Annotated[Path, Argument("Sequence folders with predicted palette PNGs.", "DIR")],
    annotations: Annotated[Path, Argument("DAVIS/Annotations/480p, or likewise.", "DIR")],
    sequences: Annotated[
        Path | None,
        Argument(
            "List of sequences, e.g. ImageSets/2017/val.txt.", "FILE", default="all annotated ones"
        ),
    ] = None,
    single_object: Annotated[
        bool,
        Argument("All but 0 is object 1, 255 too: DAVIS-2016, any binary set.", panel="Protocol"),
    ] = False,
    num_workers: Annotated[
        int | None,
        Argument("Processes.", "INT", "Speed", default="one per core", short="j", least=0),
    ] = None,
    csv_dir: Annotated[
        Path | None,
        Argument("Also write the two official CSV files here.", "DIR", "Output", default="none"),
    ] = None,
) -> FileScores:
    """J, F and J&F of DAVIS masks (semi-supervised), equal to the public toolkit's.

    sdssl-bench score davis masks DAVIS/Annotations/480p --json
    """
    from sdssl_bench.video import object_tables, score_listed

    values, scores = score_listed(
        predictions,
        annotations,
        sequences,
        num_workers=num_workers,
        single_object=single_object,
        csv_dir=csv_dir,
    )
    return FileScores(values, object_tables(scores.sequences), scores.warnings)


@dataclass(frozen=True)
class Task(Contract):
    """The propagation protocol; every field is a parameter of `--set`."""

    name: ClassVar[str] = "davis"
    title: ClassVar[str] = "video object segmentation by label propagation"
    version: ClassVar[int] = 1
    datasets: ClassVar[tuple[str, ...]] = sets_of("video")
    default_datasets: ClassVar[tuple[str, ...]] = ("davis",)
    folder_has: ClassVar[str] = "JPEGImages/480p"
    options: ClassVar[tuple[Option, ...]] = (
        Option("single-object", "parameter", "All but 0 is object 1 (DAVIS-2016)."),
        Option("save-masks", "artifact", "Predicted masks: layer12/NAME/*.png.", ("masks",)),
        Option("strips", "artifact", "Pictures of frames x layers."),
        Option("csv-dir", "artifact", "The official CSV files.", ("csv",)),
    )
    trial: ClassVar[Trial] = Trial(changes={"short_side": "144"})
    score_files = score_files
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "dino": {},
        # The reference counts channels on the down-sampled mask: an object lost there stays lost.
        "dino-parity": {"vanished": "drop"},
        # videowalk's README command (Jabri et al. 2020).
        "crw": {
            "context": 20, "shape": "circle", "window_on_first": False, "topk": 10,
            "keep_ties": False, "temperature": 0.05, "short_side": 0, "first_mask": "bilinear",
            "minmax": False,
        },
    }  # fmt: skip
    pitfalls: ClassVar[tuple[str, ...]] = (
        "Positions are interpolated to 480 pixels, and how matters: MAE ViT-B has 37.9 or "
        "57.5 (LatentMIM#4).",
        "Patches of 14 do not divide 480: sides are floored, the window stays 12 patches. "
        "With patches of 32 it covers almost the whole frame.",
        "Means are over objects, not over videos; the first and the last frame do not count.",
        "30 videos: a difference of 0.1 J&F is none before it is tested (compare).",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "DINO's numbers come out with torch 1.7.1 and were reported lower with later ones; nobody "
        "found why (dino#94, #174).",
        "DINO forgets objects that vanish at patch resolution (protocol dino-parity) and "
        "runs out of memory on long frames at patches of 8 (dino#98).",
        "The official evaluator scores again from CSV files it finds in the folder, "
        "whatever the masks, and its default task is another one.",
        "Scores of exactly 1 elsewhere: the predictions' folder was the annotations' "
        "(davis2017-evaluation#7).",
    )

    protocol: str = "dino"
    context: int = 7
    """Frames before the target that it attends to, besides the first; DINO eval_video_segmentation."""
    radius: int = 12
    """Of the window, in patches; same source."""
    shape: str = "square"
    """Of the window: square, or circle (videowalk)."""
    window_on_first: bool = True
    """Whether the window applies to the first frame too; videowalk: no."""
    topk: int = 5
    """Affinities kept per patch, over all context frames jointly; DINO."""
    keep_ties: bool = True
    """Keep all affinities equal to the k-th; DINO does."""
    temperature: float = 0.1
    """Of the exponential; DINO."""
    short_side: int = 480
    """Of the resized frames, in pixels, floored to the patch size; 0 keeps the size; DINO."""
    long_multiple: int = 64
    """The long side is floored to it (to the patch size if that does not divide it); DINO."""
    normalisation: str = "davis"
    """davis: std 0.228, 0.224, 0.225 for encoders with ImageNet's constants; encoder: its own."""
    first_mask: str = "nearest"
    """How the first mask gets to patch resolution: nearest (DINO), bilinear (videowalk)."""
    vanished: str = "keep"
    """Objects lost at patch resolution: keep their channel, or drop as DINO's code does."""
    minmax: bool = True
    """Stretch each channel to 0..1 before the argmax; DINO."""
    single_object: bool = field(default=False, metadata=WHEN_SET)
    """Everything but 0 in a mask is object 1, 255 too; DAVIS-2016."""

    def __post_init__(self) -> None:
        from sdssl_bench.video import SHAPES

        for name, known in (
            ("shape", SHAPES),
            ("normalisation", ("davis", "encoder")),
            ("first_mask", ("nearest", "bilinear")),
            ("vanished", ("keep", "drop")),
        ):
            if getattr(self, name) not in known:
                raise UsageError(did_you_mean(f"value of {name}", getattr(self, name), known))
        for name, least in (
            ("context", 0), ("radius", 0), ("topk", 1), ("short_side", 0), ("long_multiple", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise UsageError(
                    f"--set {name} takes a number from {least}, found {getattr(self, name)}."
                )
        if not self.temperature > 0:
            raise UsageError(f"The temperature must be positive, found {self.temperature}.")

    @property
    def settings(self) -> Settings:
        """The parameters as the segmenter takes them."""
        from sdssl_bench.video import Rule, Settings

        def of(kind: Any, *others: str) -> dict[str, Any]:
            return {x.name: getattr(self, x.name) for x in fields(kind) if x.name not in others}

        return Settings(rule=Rule(**of(Rule)), **of(Settings, "rule"))

    def load_data(self, name: str, ctx: RunContext) -> DavisData:
        """The sequences, verified."""
        from sdssl_bench.datasets import davis, gap_warning

        data = davis.load(
            name,
            data_root=ctx.data_root,
            allow_partial=ctx.allow_partial,
            single_object=self.single_object,
        )
        warning = gap_warning({video.name: video.absent for video in data.videos})
        if warning and ctx.progress:
            ctx.progress.message(f"warning: {warning}", once=True)
        return data

    def describe_data(self, data: DavisData) -> DatasetInfo:
        """Identity and size."""
        return DatasetInfo(
            name=data.name,
            variant=data.variant,
            fingerprint=data.fingerprint,
            splits={"val": data.num_frames},
            details={
                "sequences": len(data.videos),
                "objects": data.num_objects,
                **data.notes,
            },
        )

    def resolve(self, encoder: Encoder, data: DavisData, ctx: RunContext) -> dict[str, Any]:
        """Sizes of frames in pixels, stride and the constants of the input."""
        mean, std = self.settings.constants(encoder)
        sizes = sorted({video.size for video in data.videos})
        working = {size: self.settings.working(size, encoder.stride) for size in sizes}
        for height, width in sorted(set(working.values())):
            encoder.check_size(height, width)
        return {
            "frames": {f"{h}x{w}": list(working[h, w]) for h, w in sizes},
            "stride": encoder.stride,
            "mean": list(mean),
            "std": list(std),
        }

    def headline(self, data: DavisData) -> str:
        """J&F-Mean."""
        from sdssl_bench.video import GLOBAL

        return GLOBAL[0]

    def run(
        self, encoder: Encoder, data: DavisData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer once all sequences are done; a sequence is stored when it is done."""
        import numpy as np

        from sdssl_bench import video as masks
        from sdssl_bench.system import distributed

        scorer, videos = self._scorer(encoder, data, layers, ctx)
        mine = videos[distributed.process_index() :: distributed.num_processes()]
        started = time.perf_counter()
        found = scorer.score_all(mine, num_frames=sum(len(video.frames) for video in videos))
        seconds = {**scorer.seconds, "total": time.perf_counter() - started}
        if not distributed.is_main_process():
            return
        for layer in layers:
            results = {video.name: found[video.name][layer] for video in videos}
            scores = [masks.SequenceScores(name, one.values) for name, one in results.items()]
            if "csv" in ctx.artifacts:
                masks.write_csv(ctx.artifacts["csv"] / f"layer{layer:02d}", scores)
            objects, single = masks.per_object(scores), masks.object_statistics(scores)
            lost = [f"{name}_{k}" for name, one in results.items() for k in one.vanished]
            yield LayerScores(
                layer=layer,
                metrics=masks.summarise(scores),
                n=len(objects),
                items={
                    "object": np.array(list(objects)),
                    **{key: np.array([one[key] for one in objects.values()]) for key in "JF"},
                    **{n: v for n, v in single.items() if n.endswith(("Recall", "Decay"))},
                },
                seconds=seconds,
                notes={"vanished_at_patch_resolution": lost} if lost else {},
            )
            seconds = {}

    def work(
        self, encoder: Encoder, data: DavisData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """The sequences that are not stored yet."""
        from sdssl_bench.video import videos_work

        yield videos_work(*self._scorer(encoder, data, layers, ctx))

    def _scorer(self, *run: Any) -> tuple[VideoScorer, list[Video]]:
        from sdssl_bench.video import VideoScorer

        encoder, data, layers, ctx = run
        parameters = recorded_parameters(self)
        identity = {"task": self.name, "version": self.version, "parameters": parameters}
        made = VideoScorer(encoder, layers, settings=self.settings, identity=identity, ctx=ctx)
        return made, [data.videos[i] for i in limited_indices(len(data.videos), ctx.limit)]

    def tables(self, record: Mapping[str, Any], path: Path) -> Iterator[RenderableType]:
        """Sequences of the last and of the best layer."""
        from sdssl_bench.video import sequence_table

        yield sequence_table(record, path)
