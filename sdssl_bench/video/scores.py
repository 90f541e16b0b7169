"""J and F of every layer on videos: segment, score in memory, keep what is finished, show it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdssl_bench.datasets import Video, write_mask
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UserError
from sdssl_bench.features import key_of, structure_digest
from sdssl_bench.metrics import score_frame
from sdssl_bench.rounding import percent
from sdssl_bench.system import gather_objects, missing_opencv, resolve_device, writing
from sdssl_bench.task import RunContext
from sdssl_bench.video.segmentation import FrameMasks, Segmenter, Settings
from sdssl_bench.video.stored_scores import LayerResult, Stamp, StoredScores
from sdssl_bench.video.strips import overlay, shown_frames, strip, write_strip

Results = dict[int, LayerResult]


class VideoScorer:
    """Scores videos at several layers.

    Args:
        encoder: loaded, with `info` set.
        layers: any of 1..L.
        settings: of the segmentation.
        identity: what decides the scores besides encoder, video and settings; JSON values.
        ctx: device, cache and folders to write to.
    """

    def __init__(
        self,
        encoder: Encoder,
        layers: Sequence[int],
        *,
        settings: Settings,
        identity: Mapping[str, Any],
        ctx: RunContext,
    ) -> None:
        assert encoder.info is not None, "a loaded encoder knows who it is"
        self.ctx, self.layers, self.encoder = ctx, list(layers), encoder
        device = resolve_device(ctx.device)
        on_cpu = device.startswith("cpu")
        self.segmenter = Segmenter(
            encoder,
            layers,
            settings=settings,
            device=device,
            dtype=ctx.dtype,
            batch_size=ctx.batch_size or (1 if on_cpu else 4),
            num_workers=2 if ctx.num_workers is None else ctx.num_workers,
        )
        self.facts = {
            **identity,
            **encoder.place,
            "weights_sha256": encoder.info.weights_sha256,
            "structure_sha256": structure_digest(encoder),
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "dtype": ctx.dtype,
        }
        self._spent = {"score": 0.0, "write": 0.0}

    @property
    def seconds(self) -> dict[str, float]:
        """Time of this process by phase."""
        return {**self.segmenter.seconds, **self._spent}

    def score_all(self, videos: Sequence[Video], *, num_frames: int) -> dict[str, Results]:
        """Results of this process's videos and of all others': sequence -> layer -> result.

        Args:
            videos: of this process.
            num_frames: of the videos of all processes, for the progress display.

        Raises:
            DataError: naming a frame or mask that cannot be read; other sequences are kept.
        """
        progress = self.ctx.progress
        if progress:
            if notice := missing_opencv():
                progress.message(notice, once=True)
            progress.start(self.facts["task"], num_frames, "frames")
        found: dict[str, Results] = {}
        failure: UserError | None = None
        try:
            for video in videos:
                found[video.name] = self.score(video)
        except UserError as error:
            failure = error  # raised below, once the other processes know of it
        parts = gather_objects((found, failure))
        for _, other in parts:
            if other is not None:
                raise other
        if progress:
            progress.finish()
        return {name: results for part, _ in parts for name, results in part.items()}

    def score(self, video: Video) -> Results:
        """J and F of every layer in frames 1..T-2; stored results are used where there are any."""
        key = self._key(video)
        stored, done = self.finished(video)
        writer = _Writer(video, self.layers, key=key, folders=self.ctx.artifacts, model=self._model)
        missing = [layer for layer in self.layers if layer not in done]
        if not missing and writer.is_done():
            self._advance(len(video.frames))
            return done
        # A picture shows all layers side by side, so one that is missing costs all of them.
        self.segmenter.layers = missing if writer.is_done() else self.layers
        fresh = self._run(video, writer)
        for layer, result in fresh.items():
            stored.write(video.name, layer, result)
        writer.finish({layer: result.values.mean() for layer, result in fresh.items()})
        return {layer: fresh.get(layer) or done[layer] for layer in self.layers}

    def finished(self, video: Video) -> tuple[StoredScores, Results]:
        """Where results of a video are kept, and those that are."""
        stored = StoredScores(self.ctx.cache_dir / self.facts["task"] / self._key(video))
        shape = (2, video.num_objects, len(video.frames) - 2)
        kept = {layer: stored.read(video.name, layer, shape=shape) for layer in self.layers}
        return stored, {layer: result for layer, result in kept.items() if result is not None}

    def _key(self, video: Video) -> str:
        return key_of({**self.facts, "video": video.freshness})

    @property
    def _model(self) -> str:
        return self.encoder.title

    def _run(self, video: Video, writer: "_Writer") -> Results:
        annotation, objects = video.annotation(0), video.num_objects
        last = len(video.frames) - 1
        values = {
            layer: np.empty((2, objects, len(video.frames) - 2)) for layer in self.segmenter.layers
        }
        for frame in self.segmenter.segment(video):
            if frame.index == 1:
                writer.first(annotation)
                self._advance(1)
            truth = video.annotation(frame.index)
            started = time.perf_counter()
            if frame.index < last:
                for layer, mask in frame.masks.items():
                    values[layer][:, :, frame.index - 1] = score_frame(mask, truth, objects)
            scored = time.perf_counter()
            writer.add(frame, truth)
            self._spent["score"] += scored - started
            self._spent["write"] += time.perf_counter() - scored
            self._advance(1)
        vanished = self.segmenter.vanished
        return {layer: LayerResult(values[layer], vanished[layer]) for layer in values}

    def _advance(self, frames: int) -> None:
        if self.ctx.progress:
            self.ctx.progress.advance(frames)


class _Writer:
    """Masks and the picture of one video, if they were asked for."""

    def __init__(
        self,
        video: Video,
        layers: Sequence[int],
        *,
        key: str,
        folders: Mapping[str, Path],
        model: str,
    ) -> None:
        self.video, self.layers, self.model = video, list(layers), model
        self.masks, self.strips = folders.get("masks"), folders.get("strips")
        self.stamps: list[tuple[Stamp, list[Path]]] = []
        if self.masks:
            files = [self._mask(layer, t) for layer in layers for t in range(len(video.frames))]
            self.stamps.append(
                (Stamp(self.masks, key_of({"run": key, "layers": self.layers})), files)
            )
        if self.strips:
            stamp = Stamp(self.strips, key_of({"run": key, "layers": self.layers}))
            self.stamps.append((stamp, [self._picture()]))
        self.shown = shown_frames(len(video.frames))
        self.rows: dict[str, list[Image.Image]] = {}

    def _mask(self, layer: int, t: int) -> Path:
        assert self.masks
        return self.masks / f"layer{layer:02d}" / self.video.name / self.video.masks[t].name

    def _picture(self) -> Path:
        assert self.strips
        return self.strips / f"{self.video.name}.png"

    def is_done(self) -> bool:
        """Whether nothing is left to write for this run."""
        return all(stamp.holds(self.video.name, files) for stamp, files in self.stamps)

    def first(self, annotation: NDArray[np.uint8]) -> None:
        """Frame 0: its mask is the annotation, in every layer."""
        if self.is_done():
            self.masks = self.strips = None
            self.stamps = []
        for stamp, files in self.stamps:
            stamp.clear(self.video.name)
            for folder in {file.parent for file in files}:
                with writing(folder):
                    folder.mkdir(parents=True, exist_ok=True)
        if self.masks:
            for layer in self.layers:
                write_mask(self._mask(layer, 0), annotation)
        if self.strips:
            with Image.open(self.video.frames[0]) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._tiles(0, pixels, annotation, dict.fromkeys(self.layers, annotation))

    def add(self, frame: FrameMasks, truth: NDArray[np.uint8]) -> None:
        """A frame after the first."""
        if self.masks:
            for layer, mask in frame.masks.items():
                write_mask(self._mask(layer, frame.index), mask)
        if self.strips:
            self._tiles(frame.index, frame.pixels, truth, frame.masks)

    def _tiles(
        self,
        t: int,
        pixels: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        masks: Mapping[int, NDArray[np.uint8]],
    ) -> None:
        if t not in self.shown:
            return
        self.rows.setdefault("annotation", []).append(overlay(pixels, truth))
        for layer, mask in masks.items():
            self.rows.setdefault(f"layer {layer}", []).append(overlay(pixels, mask))

    def finish(self, scores: Mapping[int, float]) -> None:
        """All frames are there: write the picture, labelled with J&F of each layer, and the stamps."""
        if self.strips:
            rows = {"annotation": self.rows["annotation"]}
            for layer, score in scores.items():
                rows[f"layer {layer}\nJ&F {percent(score)}"] = self.rows[f"layer {layer}"]
            picture = strip(rows, self.shown, title=f"{self.video.name}, {self.model}")
            write_strip(self._picture(), picture)
        for stamp, files in self.stamps:
            stamp.set(self.video.name, files)
