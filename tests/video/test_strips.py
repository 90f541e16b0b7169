"""The picture of a video: a row for each mask, a column for each frame."""

import itertools

from PIL import Image

from sdssl_bench.video.strips import LABEL_WIDTH, strip

COLOURS = [[(90, 0, 0), (0, 90, 0)], [(0, 0, 90), (90, 90, 0)], [(0, 90, 90), (90, 0, 90)]]


def test_every_thumbnail_stands_whole_in_its_row_and_column() -> None:
    rows = {
        f"layer {number}": [Image.new("RGB", (40, 30), colour) for colour in colours]
        for number, colours in enumerate(COLOURS)
    }
    picture = strip(rows, [0, 7], title="a video")
    found = picture.getcolors(picture.width * picture.height)
    areas = {colour: count for count, colour in found or []}
    assert all(areas[colour] == 40 * 30 for colours in COLOURS for colour in colours)
    corners = {
        colour: next(
            (x, y)
            for y in range(picture.height)
            for x in range(LABEL_WIDTH, picture.width)
            if picture.getpixel((x, y)) == colour
        )
        for colours in COLOURS
        for colour in colours
    }
    for colours in COLOURS:
        (left, top), (right, same) = (corners[colour] for colour in colours)
        assert top == same
        assert right > left + 40, "a gap between frames"
    tops = [corners[colours[0]][1] for colours in COLOURS]
    assert all(below > above + 30 for above, below in itertools.pairwise(tops))
