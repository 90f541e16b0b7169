"""The picture of a query: its image, then what was found, best first, framed by right and wrong."""

import itertools
from pathlib import Path

from PIL import Image

from sdssl_bench.retrieval.gallery import (
    FRAME,
    NEUTRAL,
    RIGHT,
    TEXT,
    WRONG,
    Gallery,
    write_gallery,
)

PLAIN = [(99, 99, 0), (99, 0, 0), (0, 0, 99), (0, 99, 99)]


def test_images_stand_whole_in_their_order_within_their_frames(tmp_path: Path) -> None:
    for number, colour in enumerate(PLAIN):
        Image.new("RGB", (80, 60), colour).save(tmp_path / f"{number}.png")
    query, *files = sorted(tmp_path.glob("*.png"))
    page = Image.open(
        write_gallery(
            tmp_path / "pages",
            Gallery(
                name="all/souls",
                title="a query",
                query=query,
                files=files,
                scores=[0.9, 0.8, 0.7],
                right=[True, False, False],
                remarks=["easy", "junk", ""],
            ),
        )
    ).convert("RGB")
    found = page.getcolors(page.width * page.height)
    areas = {colour: count for count, colour in found or []}
    assert [areas[colour] for colour in PLAIN] == [80 * 60] * 4
    pixels = {
        colour: [
            (x, y)
            for x in range(page.width)
            for y in range(page.height)
            if page.getpixel((x, y)) == colour
        ]
        for colour in PLAIN
    }
    starts = [min(pixels[colour])[0] for colour in PLAIN]
    steps = {after - before for before, after in itertools.pairwise(starts)}
    assert len(steps) == 1
    assert steps.pop() > 80
    for colour, frame in zip(PLAIN, (NEUTRAL, RIGHT, NEUTRAL, WRONG), strict=True):
        (left, top), (right, bottom) = min(pixels[colour]), max(pixels[colour])
        for x, y in ((left - 1, top), (left, top - 1), (right + 1, bottom), (right, bottom + 1)):
            assert page.getpixel((x, y)) == frame
    assert [one.name for one in (tmp_path / "pages").iterdir()] == ["all-souls.png"]


def test_the_page_has_one_line_of_text_above_and_below_the_images(tmp_path: Path) -> None:
    """Square images fill their cells: as much room over the frames as under them, and at both sides."""
    Image.new("RGB", (400, 400), PLAIN[0]).save(tmp_path / "0.png")
    file = tmp_path / "0.png"
    gallery = Gallery("x", "", file, [file] * 2, [1.0] * 2, [True] * 2, [""] * 2)
    page = Image.open(write_gallery(tmp_path, gallery)).convert("RGB")
    column = [page.getpixel((30, y)) for y in range(page.height)]
    above, below = (column.index(NEUTRAL), column[::-1].index(NEUTRAL))
    assert above == below == TEXT + FRAME
    row = [page.getpixel((x, page.height // 2)) for x in range(page.width)]
    assert row.index(NEUTRAL) == FRAME
    assert row[::-1].index(RIGHT) == FRAME
