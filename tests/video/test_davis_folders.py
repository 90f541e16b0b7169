"""`score davis`: the numbers of the pure functions, official files, and every kind of bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from davis_twins import dense_j_and_f
from sdssl_bench.cli.main import app
from sdssl_bench.datasets.readers.palette import read_mask, voc_palette, write_mask
from sdssl_bench.datasets.readers.video_files import read_sequences
from sdssl_bench.errors import DataError
from sdssl_bench.video.folders import score_folders
from sdssl_bench.video.summary import score_sequence, summarise

SHAPES = {"goat": (7, 2, (40, 64)), "dog": (5, 1, (48, 36)), "pigs": (6, 3, (36, 36))}


def stack(name: str, seed: int) -> np.ndarray:
    """[T, H, W] ids in blocks of 6 pixels; every object is in frame 0."""
    frames, objects, (height, width) = SHAPES[name]
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, objects + 1, (frames, height // 4, width // 4)).astype(np.uint8)
    coarse[0, 0, : objects + 1] = range(objects + 1)
    return np.kron(coarse, np.ones((1, 4, 4), np.uint8))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number, name in enumerate(SHAPES):
        for part, seed in (("truth", number), ("masks", number + 10)):
            (tmp_path / part / name).mkdir(parents=True)
            for t, mask in enumerate(stack(name, seed)):
                write_mask(tmp_path / part / name / f"{t:05d}.png", mask)
    (tmp_path / "val.txt").write_text("goat\ndog\n\npigs\n")
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    return [
        "score", "davis", "--predictions", str(folder / "masks"), "--annotations",
        str(folder / "truth"), "--sequences", str(folder / "val.txt"), "-j", "0", *more,
    ]  # fmt: skip


def scores_of(folder: Path, *more: str) -> dict:
    done = CliRunner().invoke(app, command(folder, "--json", *more))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_json_holds_the_seven_numbers_and_each_object_at_full_precision(folders: Path) -> None:
    scores = scores_of(folders)
    expected = [
        score_sequence(stack(name, i + 10), stack(name, i), name=name)
        for i, name in enumerate(SHAPES)
    ]
    assert {k: v for k, v in scores.items() if k != "per_object"} == summarise(expected)
    assert list(scores["per_object"]) == ["goat_1", "goat_2", "dog_1", "pigs_1", "pigs_2", "pigs_3"]
    for i, name in enumerate(SHAPES):
        dense = dense_j_and_f(stack(name, i + 10)[1:-1], stack(name, i)[1:-1], SHAPES[name][1])
        for k, (j, f) in enumerate(dense.mean(-1).T, 1):
            found = scores["per_object"][f"{name}_{k}"]
            assert found["J"] == pytest.approx(j, abs=1e-12)
            assert found["F"] == pytest.approx(f, abs=1e-12)


def test_processes_change_nothing(folders: Path) -> None:
    one = score_folders(folders / "masks", folders / "truth", list(SHAPES))
    two = score_folders(folders / "masks", folders / "truth", list(SHAPES), num_workers=2)
    assert [s.name for s in two.sequences] == list(SHAPES)
    for a, b in zip(one.sequences, two.sequences):
        assert np.array_equal(a.values, b.values)


def test_without_a_list_all_annotated_sequences_are_scored(folders: Path) -> None:
    arguments = command(folders, "--json")
    del arguments[6:8]
    done = CliRunner().invoke(app, arguments)
    assert len(json.loads(done.stdout)["per_object"]) == 6


def test_csv_files_have_the_official_names_and_headers_and_are_never_reused(folders: Path) -> None:
    out = folders / "csv"
    out.mkdir()
    for name in ("global_results-val.csv", "per-sequence_results-val.csv"):
        (out / name).write_text("stale")
    scores = scores_of(folders, "--csv-dir", str(out))
    header, row = rows_of(out / "global_results-val.csv")
    assert header == ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    assert row == [f"{scores[name]:.3f}" for name in header]
    rows = rows_of(out / "per-sequence_results-val.csv")
    assert rows[0] == ["Sequence", "J-Mean", "F-Mean"]
    assert [r[0] for r in rows[1:]] == list(scores["per_object"])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def as_colours(path: Path) -> None:
    with Image.open(path) as image:
        colours = image.convert("RGB")
    colours.save(path)


def with_id(path: Path, number: int) -> None:
    mask = read_mask(path).copy()
    mask[3, 3] = number
    write_mask(path, mask)


def resize(path: Path) -> None:
    write_mask(path, read_mask(path)[:, 1:])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (Path.unlink, "expected a mask, found no such file"),
        (truncate, "damaged"),
        (as_colours, "found mode RGB"),
        (lambda path: with_id(path, 3), r"expected ids 0\.\.2, .* found 3"),
        (lambda path: with_id(path, 255), r"expected ids 0\.\.2, .* found 255"),
        (resize, "expected 64 x 40 pixels.* found 63 x 40"),
        (lambda path: path.write_bytes(b"no image"), "damaged"),
    ],
    ids=["missing", "truncated", "rgb", "id above K", "void left", "wrong size", "garbage"],
)
def test_a_bad_prediction_is_an_error_that_names_the_file(
    folders: Path, break_it, message: str
) -> None:
    bad = folders / "masks" / "goat" / "00003.png"
    break_it(bad)
    done = CliRunner().invoke(app, command(folders))
    assert done.exit_code == 3
    assert str(bad) in done.stderr
    with pytest.raises(DataError, match=message):
        score_folders(folders / "masks", folders / "truth", ["goat"])


def test_errors_cross_processes(folders: Path) -> None:
    (folders / "masks" / "goat" / "00003.png").unlink()
    with pytest.raises(DataError, match=r"00003\.png: expected a mask"):
        score_folders(folders / "masks", folders / "truth", list(SHAPES), num_workers=2)


@pytest.mark.parametrize("frame", ["00000.png", "00006.png"])
def test_first_and_last_prediction_are_not_looked_at(folders: Path, frame: str) -> None:
    before = scores_of(folders)
    (folders / "masks" / "goat" / frame).write_bytes(b"")
    assert scores_of(folders) == before


def test_fewer_objects_than_annotated_are_empty_masks(folders: Path) -> None:
    for path in (folders / "masks" / "pigs").glob("*.png"):
        write_mask(path, np.minimum(read_mask(path), 2))
    missing = scores_of(folders)["per_object"]["pigs_3"]
    assert missing["J"] == missing["F"] == 0.0


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (truncate, "damaged"),
        (as_colours, "found mode RGB"),
        (resize, "expected 64 x 40 pixels as in frame 0"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_the_file(
    folders: Path, break_it, message: str
) -> None:
    bad = folders / "truth" / "goat" / "00002.png"
    break_it(bad)
    with pytest.raises(DataError, match=message) as caught:
        score_folders(folders / "masks", folders / "truth", ["goat"])
    assert str(bad) in str(caught.value)


def test_davis_2016_masks_are_recognised(folders: Path) -> None:
    for path in (folders / "truth" / "dog").glob("*.png"):
        write_mask(path, 255 * (read_mask(path) > 0))
    with pytest.raises(DataError, match=r"Masks of 0 and 255, as in DAVIS-2016, .*--single-object"):
        score_folders(folders / "masks", folders / "truth", ["dog"])


def test_a_single_object_is_the_union_of_all_ids_void_included(folders: Path) -> None:
    """Equal to the scores of the same masks written as ids 0 and 1."""
    for part in ("truth", "masks"):
        for path in (folders / part).rglob("*.png"):
            ids = read_mask(path)
            united = folders / f"{part}-united" / path.parent.name / path.name
            united.parent.mkdir(parents=True, exist_ok=True)
            write_mask(united, (ids > 0).astype(np.uint8))
            write_mask(path, np.where(ids == 1, 255, ids))
    found = score_folders(folders / "masks", folders / "truth", list(SHAPES), single_object=True)
    twin = score_folders(folders / "masks-united", folders / "truth-united", list(SHAPES))
    for one, other in zip(found.sequences, twin.sequences, strict=True):
        assert one.values.shape[1] == 1
        assert np.array_equal(one.values, other.values)
    assert scores_of(folders, "--single-object") == {
        **summarise(twin.sequences),
        "per_object": {
            f"{one.name}_1": {"J": one.values[0].mean(), "F": one.values[1].mean()}
            for one in twin.sequences
        },
        "single_object": True,
    }


def test_ids_with_a_gap_warn_and_score_by_the_public_rule(folders: Path) -> None:
    for part in ("truth", "masks"):
        for path in (folders / part / "goat").glob("*.png"):
            ids = read_mask(path)
            write_mask(path, np.where(ids == 2, 3, ids))
    found = score_folders(folders / "masks", folders / "truth", list(SHAPES))
    assert len(found.warnings) == 1
    assert "gaps (goat 2)" in found.warnings[0]
    assert found.sequences[0].values.shape[1] == 3
    assert (found.sequences[0].values[:, 1] == 1).all()
    done = CliRunner().invoke(app, command(folders, "--json"))
    assert "warning: Ids 1..K" in done.stderr


@pytest.mark.parametrize("lost", [0, 3, 6], ids=["first", "middle", "last"])
def test_a_lost_annotation_is_an_error_even_when_all_others_are_perfect(
    folders: Path, lost: int
) -> None:
    (folders / "truth" / "goat" / f"{lost:05d}.png").unlink()
    with pytest.raises(DataError, match=rf"found none of frame {lost} "):
        score_folders(folders / "masks", folders / "truth", ["goat"])
    if lost == 3:
        (folders / "masks" / "goat" / "00003.png").unlink()
        with pytest.raises(DataError, match="found none of frame 3 "):
            score_folders(folders / "masks", folders / "truth", ["goat"])


def test_annotations_of_every_fifth_frame_are_whole(folders: Path) -> None:
    for part in ("truth", "masks"):
        for path in sorted((folders / part / "goat").glob("*.png"), reverse=True):
            path.rename(path.with_name(f"{5 * int(path.stem):05d}.png"))
    # Predictions in between are nobody's loss.
    (folders / "masks" / "goat" / "00007.png").write_bytes(b"")
    assert len(score_folders(folders / "masks", folders / "truth", ["goat"]).sequences) == 1


def test_lists_of_davis_2016_name_their_sequences(tmp_path: Path) -> None:
    lines = [
        f"/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png \n"
        for name in ("goat", "dog")
        for t in range(3)
    ]
    (tmp_path / "val.txt").write_text("".join(lines))
    assert read_sequences(tmp_path / "val.txt") == ["goat", "dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "empty list"),
        ("goat\ngoat\n", "found twice: goat"),
        ("/JPEGImages/480p/goat/00000.jpg /Annotations/480p/goat/00000.png\na/b", "DAVIS-2016"),
        (None, "expected a list of sequence names"),
    ],
)
def test_a_bad_sequence_list_is_an_error(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "val.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_sequences(tmp_path / "val.txt")


@pytest.mark.parametrize(
    ("predictions", "names", "message"),
    [
        ("masks", ["cat"], "expected the annotations of a sequence"),
        ("masks", [], "empty list"),
        ("nowhere", ["dog"], "expected a folder"),
    ],
)
def test_unknown_sequences_and_folders_are_errors(
    folders: Path, predictions: str, names: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score_folders(folders / predictions, folders / "truth", names)


def test_predictions_that_equal_the_annotations_are_warned_about(folders: Path) -> None:
    for path in (folders / "truth" / "dog").glob("*.png"):
        (folders / "masks" / "dog" / path.name).write_bytes(path.read_bytes())
    done = CliRunner().invoke(app, command(folders, "--json"))
    assert (
        "warning: Every predicted mask equals its annotation in 1 of 3 sequences (dog)"
        in done.stderr
    )
    assert json.loads(done.stdout)["per_object"]["dog_1"] == {"J": 1.0, "F": 1.0}
    itself = score_folders(folders / "truth", folders / "truth", ["dog"])
    assert itself.warnings == [
        f"The predictions are the annotations themselves: {folders / 'truth'}."
    ]
    assert not score_folders(folders / "masks", folders / "truth", ["goat"]).warnings


def test_void_in_annotations_is_background(folders: Path) -> None:
    before = scores_of(folders)
    for path in (folders / "truth" / "goat").glob("*.png"):
        mask = read_mask(path).copy()
        mask[mask == 0] = 255
        write_mask(path, mask)
    assert scores_of(folders) == before


def test_masks_are_written_as_palette_files_of_the_ids(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / "00000.png", ids)
    with Image.open(tmp_path / "00000.png") as image:
        assert image.mode == "P"
        assert image.size == (32, 8)
        assert bytes(image.getpalette()) == voc_palette()
    assert np.array_equal(read_mask(tmp_path / "00000.png"), ids)


def test_palette_is_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128),
             8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    palette = voc_palette()
    assert {i: tuple(palette[3 * i : 3 * i + 3]) for i in known} == known


def test_grey_and_low_depth_files_of_ids_are_read(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 4, (9, 13)).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / "grey.png")
    palette = Image.fromarray(ids)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "deep2.png", bits=2)
    for name in ("grey.png", "deep2.png"):
        assert np.array_equal(read_mask(tmp_path / name), ids)


def test_scoring_imports_no_torch(folders: Path) -> None:
    code = (
        "import sys\nfrom sdssl_bench.cli.main import app\n"
        f"try:\n    app({command(folders, '--json')!r})\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'cv2', 'pandas'} & set(sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not (Path(__file__).resolve().parents[3] / "shared" / "data" / "davis").is_dir(),
    reason="needs the real DAVIS frames",
)
def test_real_palette_files_are_read_as_ids() -> None:
    root = Path(__file__).resolve().parents[3] / "shared" / "data" / "davis"
    folder = root / "DAVIS2017_official_palette_frames" / "Annotations" / "480p"
    assert set(np.unique(read_mask(folder / "bmx-trees" / "00000.png"))) == {0, 1, 2}
    assert set(np.unique(read_mask(folder / "tennis" / "00000.png"))) == {0, 1, 2, 255}
    binary = root / "DAVIS" / "Annotations_davis2016_binary" / "480p" / "bmx-trees" / "00000.png"
    union = read_mask(folder / "bmx-trees" / "00000.png") > 0
    assert np.array_equal(union, read_mask(binary) > 127)
