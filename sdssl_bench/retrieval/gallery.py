"""Pictures of a query and the images found for it: right ones framed green, others red, with scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sdssl_bench.datasets import GroundTruth, ImageSet
from sdssl_bench.features import Box, FeatureBank, crop_box
from sdssl_bench.neighbors import top_k
from sdssl_bench.retrieval.copy_detection import CopyScores, Kept
from sdssl_bench.rounding import percent
from sdssl_bench.system import replacing
from sdssl_bench.task import RunContext

CELL, FRAME, TEXT = 200, 6, 18
RIGHT, WRONG, NEUTRAL = (0, 150, 60), (200, 30, 40), (120, 120, 120)


@dataclass(frozen=True, eq=False)
class Gallery:
    """One query's row.

    Attributes:
        name: of the picture file, without ending.
        title: written above the query.
        query: image file.
        files: images found, best first.
        scores: their similarities.
        right: whether each is what should be found.
        remarks: a word about each ("easy", "junk", ...), "" for none.
        box: crop of the query, drawn into it.
    """

    name: str
    title: str
    query: Path
    files: Sequence[Path]
    scores: Sequence[float]
    right: Sequence[bool]
    remarks: Sequence[str]
    box: Box | None = None


def write_gallery(folder: Path, gallery: Gallery) -> Path:
    """Write the row as a PNG; returns its path."""
    width = (CELL + FRAME) * (1 + len(gallery.files)) + FRAME
    page = Image.new("RGB", (width, CELL + 2 * FRAME + 2 * TEXT), "white")
    draw = ImageDraw.Draw(page)
    draw.text((FRAME, 3), gallery.title, fill="black")
    _cell(page, 0, gallery.query, colour=NEUTRAL, box=gallery.box)
    rows = zip(gallery.files, gallery.scores, gallery.right, gallery.remarks, strict=True)
    for column, (file, score, right, remark) in enumerate(rows, start=1):
        colour = RIGHT if right else NEUTRAL if remark == "junk" else WRONG
        _cell(page, column, file, colour=colour)
        text = f"{column}  {score:.3f}  {remark}"
        draw.text((column * (CELL + FRAME) + FRAME, CELL + 2 * FRAME + TEXT), text, fill=colour)
    path = folder / f"{gallery.name.replace('/', '-')}.png"
    with replacing(path) as temporary:
        page.save(temporary, format="PNG")
    return path


def _cell(
    page: Image.Image,
    column: int,
    file: Path,
    *,
    colour: tuple[int, int, int],
    box: Box | None = None,
) -> None:
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    if box is not None:
        ImageDraw.Draw(image).rectangle(
            crop_box(image.size, box), outline=RIGHT, width=max(image.size) // 100 + 1
        )
    image.thumbnail((CELL - 2 * FRAME, CELL - 2 * FRAME))
    left, top = column * (CELL + FRAME) + FRAME, TEXT + FRAME
    frame = Image.new("RGB", (image.width + 2 * FRAME, image.height + 2 * FRAME), colour)
    frame.paste(image, (FRAME, FRAME))
    page.paste(frame, (left, top))


def write_worst_queries(
    folder: Path,
    ap: NDArray[np.float64],
    truth: GroundTruth,
    *,
    sets: Sequence[ImageSet | None],
    banks: Sequence[FeatureBank],
    features: tuple[NDArray[Any], list[NDArray[Any]]],
    boxes: NDArray[np.float64] | None,
    ctx: RunContext,
) -> None:
    """Pictures of the ten queries with the lowest AP and the five images that come first.

    Args:
        folder: of the pictures.
        ap: [Q] of the queries that could be read; NaN where a query has no positive.
        truth: of the whole set.
        sets: queries, database and distractors, None for no distractors.
        banks: of those sets.
        features: [Q, D] of the queries, and [N, D] of each further set.
        boxes: crops of the queries, drawn into them; None for whole queries.
        ctx: backend and device.
    """
    rows, parts = features
    queries, *searched = (one for one in sets if one is not None)
    worst = [int(i) for i in np.argsort(ap, kind="stable") if np.isfinite(ap[i])][:10]
    bank = np.concatenate(parts)
    similarity, found = top_k(
        rows[worst], bank, k=min(5, len(bank)), backend=ctx.backend, device=ctx.device
    )
    files = [
        images.root / images.names[i]
        for images, images_bank in zip(searched, banks[1:], strict=True)
        for i in images_bank.indices
    ]
    database = banks[1].indices.tolist()
    for place, query in enumerate(worst):
        index = int(banks[0].indices[query])
        labels = {int(i): label for label, lists in truth.labels.items() for i in lists[index]}
        kinds = [
            labels.get(database[row], "") if row < len(database) else "" for row in found[place]
        ]
        write_gallery(
            folder,
            Gallery(
                name=f"{place + 1:02d}-{truth.queries[index]}",
                title=f"{truth.queries[index]}  M AP {percent(ap[query])}",
                query=queries.root / queries.names[index],
                files=[files[row] for row in found[place]],
                scores=similarity[place].tolist(),
                right=[kind in ("easy", "hard") for kind in kinds],
                remarks=kinds,
                box=None if boxes is None else tuple(boxes[index].tolist()),
            ),
        )


def write_worst_copies(
    folder: Path,
    scores: CopyScores,
    kept: Kept,
    *,
    images: ImageSet,
    distractors: ImageSet | None,
    banks: Mapping[str, FeatureBank],
) -> None:
    """Pictures of the ten strong copies whose originals were found last.

    Args:
        folder: of the layer.
        scores: of the layer.
        kept: the rows that were scored.
        images: copies and originals.
        distractors: other images of the database.
        banks: "copies" of `images`, and "distractors" if there are any.
    """
    positions, indices = scores.positions["strong"], banks["copies"].indices
    files = [images.root / images.names[indices[row]] for row in kept.rows["original"]]
    if distractors is not None:
        files += [distractors.root / distractors.names[i] for i in banks["distractors"].indices]
    for place, query in enumerate(np.argsort(-positions, kind="stable")[:10].tolist()):
        name = images.names[indices[kept.rows["strong"][query]]]
        found = scores.found["strong"][query, :5].tolist()
        right = [row == kept.targets["strong"][query] for row in found]
        write_gallery(
            folder,
            Gallery(
                name=f"{place + 1:02d}-{name.replace('/', '-').rpartition('.')[0]}",
                title=f"{name}  original at place {positions[query] + 1:,}",
                query=images.root / name,
                files=[files[row] for row in found],
                scores=scores.similarity["strong"][query, :5].tolist(),
                right=right,
                remarks=["original" if hit else "" for hit in right],
            ),
        )
