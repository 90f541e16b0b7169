"""The DAVIS task end to end: known answers, one pass per frame, kept sequences, what it writes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from davis_videos import MeanColour, blocks, context, write_video
from mini_data import shared_mini
from sdssl_bench import runner, tasks
from sdssl_bench.cli.main import app
from sdssl_bench.datasets.readers.palette import read_mask, write_mask
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.parameters import recorded_parameters
from sdssl_bench.records.identity import stable_view
from sdssl_bench.records.store import ResultStore
from sdssl_bench.video.folders import score_folders
from sdssl_bench.video.frames import first_labels, to_input, vanished_objects, working_size
from sdssl_bench.video.summary import per_object, summarise

NATIVE = {"short_side": "0"}


def task_of(protocol: str = "dino", **changes: str):
    return tasks.load("davis", protocol, {**NATIVE, **changes})


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Landscape, portrait and square, aligned to a grid of 16 pixels."""
    root = tmp_path / "videos"
    write_video(root, "wide", blocks((6, 9), 6, patch=16))
    write_video(root, "tall", blocks((9, 6), 5, patch=16))
    write_video(root, "even", blocks((7, 7), 4, patch=16, objects=1))
    return root


def scores(encoder, root: Path, tmp_path: Path, *, layers=(1, 2, 3), task=None, **changes):
    task = task or task_of()
    ctx = context(tmp_path, **changes)
    data = task.load_data(f"folder:{root}", ctx)
    return list(task.run(encoder, data, layers, ctx))


def bands(objects: int = 2) -> np.ndarray:
    """[5, 96, 128] ids of bands of two patches' height that move down by a patch a frame."""
    ids = np.zeros((5, 96, 128), np.uint8)
    for t in range(5):
        for k in range(1, objects + 1):
            top = 16 * ((t + 3 * (k - 1)) % 6)
            ids[t, top : top + 32] = k
    return ids


@pytest.mark.parametrize("protocol", ["dino", "dino-parity", "crw"])
def test_bands_on_the_grid_and_a_telling_encoder_score_exactly_1(
    tmp_path: Path, protocol: str
) -> None:
    write_video(tmp_path / "v", "bands", bands())
    task = task_of(protocol, first_mask="nearest")
    for found in scores(MeanColour(), tmp_path / "v", tmp_path, task=task):
        assert found.metrics == {
            "J&F-Mean": 1.0, "J-Mean": 1.0, "J-Recall": 1.0, "J-Decay": 0.0,
            "F-Mean": 1.0, "F-Recall": 1.0, "F-Decay": 0.0,
        }  # fmt: skip
        assert found.n == 2


def test_squares_on_the_grid_lose_no_more_than_their_corners(videos: Path, tmp_path: Path) -> None:
    for found in scores(MeanColour(), videos, tmp_path, task=task_of(topk="1")):
        # The bilinear enlargement rounds corners.
        assert min(found.items["J"]) > 0.9
        assert list(found.items["object"]) == ["even_1", "tall_1", "tall_2", "wide_1", "wide_2"]


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
def test_every_patch_size_finds_its_grid(tmp_path: Path, patch: int) -> None:
    write_video(tmp_path / "v", "clip", blocks((5, 8), 4, patch=patch))
    found = scores(
        MeanColour(patch, 1), tmp_path / "v", tmp_path, layers=(1,), task=task_of(topk="1")
    )
    assert found[0].metrics["J-Mean"] > 0.9


def test_each_frame_passes_the_encoder_once_for_all_layers(videos: Path, tmp_path: Path) -> None:
    encoder = MeanColour()
    scores(encoder, videos, tmp_path)
    assert encoder.calls == 6 + 5 + 4


def test_all_layers_at_once_equal_single_layers_batches_and_threads(
    videos: Path, tmp_path: Path
) -> None:
    together = scores(MeanColour(), videos, tmp_path / "a")
    for number, layer in enumerate((1, 2, 3)):
        alone = scores(
            MeanColour(),
            videos,
            tmp_path / f"b{layer}",
            layers=(layer,),
            batch_size=3,
            num_workers=0,
        )
        assert alone[0].metrics == together[number].metrics
        assert np.array_equal(alone[0].items["J"], together[number].items["J"])


def test_scores_in_memory_equal_those_of_the_written_files(videos: Path, tmp_path: Path) -> None:
    folders = {kind: tmp_path / kind for kind in ("masks", "strips", "csv")}
    found = scores(MeanColour(), videos, tmp_path, artifacts=folders)
    names = ["even", "tall", "wide"]
    for one in found:
        masks = tmp_path / "masks" / f"layer{one.layer:02d}"
        again = score_folders(masks, videos / "Annotations" / "480p", names).sequences
        assert summarise(again) == one.metrics
        assert [v["J"] for v in per_object(again).values()] == list(one.items["J"])
        for path in (videos / "Annotations" / "480p").rglob("*.png"):
            with Image.open(masks / path.parent.name / path.name) as image:
                assert image.mode == "P"
                assert image.size[::-1] == read_mask(path).shape
        first = videos / "Annotations" / "480p" / "tall" / "00000.png"
        assert np.array_equal(read_mask(masks / "tall" / "00000.png"), read_mask(first))
        text = (tmp_path / "csv" / f"layer{one.layer:02d}" / "global_results-val.csv").read_text()
        assert text.splitlines()[1] == ",".join(f"{v:.3f}" for v in one.metrics.values())
    for name in names:
        with Image.open(tmp_path / "strips" / f"{name}.png") as picture:
            assert picture.width > 500
            assert picture.height > 400


def test_finished_sequences_are_kept_and_a_run_goes_on_from_there(
    videos: Path, tmp_path: Path
) -> None:
    undisturbed = scores(MeanColour(), videos, tmp_path / "whole")
    frame = videos / "JPEGImages" / "480p" / "wide" / "00004.jpg"
    content = frame.read_bytes()
    frame.write_bytes(content[:-40])
    encoder = MeanColour()
    with pytest.raises(DataError, match=r"wide/00004\.jpg: expected a JPEG image"):
        scores(encoder, videos, tmp_path)
    before = encoder.calls
    frame.write_bytes(content)
    resumed = scores(encoder, videos, tmp_path)
    assert encoder.calls == before + 6
    assert [r.metrics for r in resumed] == [r.metrics for r in undisturbed]
    scores(encoder, videos, tmp_path)
    assert encoder.calls == before + 6


def test_a_single_object_scores_as_its_united_masks_and_is_recorded_only_when_set(
    videos: Path, tmp_path: Path
) -> None:
    united = tmp_path / "united"
    shutil.copytree(videos, united)
    for path in united.rglob("*.png"):
        write_mask(path, (read_mask(path) > 0).astype(np.uint8))
    one = scores(MeanColour(), videos, tmp_path / "a", task=task_of(single_object="true"))
    other = scores(MeanColour(), united, tmp_path / "b")
    assert [r.metrics for r in one] == [r.metrics for r in other]
    assert one[0].n == 3
    assert recorded_parameters(task_of(single_object="true"))["single_object"] is True
    assert "single_object" not in recorded_parameters(task_of())


def test_a_damaged_kept_result_is_computed_again(videos: Path, tmp_path: Path) -> None:
    encoder = MeanColour()
    first = scores(encoder, videos, tmp_path)
    for path in (tmp_path / "cache" / "davis").rglob("wide-*.npz"):
        path.write_bytes(path.read_bytes()[:-20])
    calls = encoder.calls
    assert [r.metrics for r in scores(encoder, videos, tmp_path)] == [r.metrics for r in first]
    assert encoder.calls == calls + 6


@pytest.mark.parametrize("change", ["parameters", "weights", "dtype", "frame", "structure"])
def test_kept_results_belong_to_one_encoder_protocol_and_video(
    videos: Path, tmp_path: Path, change: str
) -> None:
    encoder = MeanColour()
    scores(encoder, videos, tmp_path)
    calls, task, changes = encoder.calls, task_of(), {}
    if change == "parameters":
        task = task_of(temperature="0.2")
    elif change == "weights":
        from dataclasses import replace

        encoder.info = replace(encoder.info, weights_sha256="1" * 64)
    elif change == "dtype":
        changes = {"dtype": "bfloat16"}
    elif change == "structure":
        encoder.heads = 12
    else:
        frame = videos / "JPEGImages" / "480p" / "wide" / "00004.jpg"
        with Image.open(frame) as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(frame, quality=97)
    scores(encoder, videos, tmp_path, task=task, **changes)
    assert encoder.calls == calls + (6 if change == "frame" else 15)


def test_masks_are_written_again_if_another_run_used_the_folder(
    videos: Path, tmp_path: Path
) -> None:
    folders = {"masks": tmp_path / "masks"}
    encoder = MeanColour()
    scores(encoder, videos, tmp_path, artifacts=folders)
    mask = tmp_path / "masks" / "layer01" / "wide" / "00003.png"
    content, calls = mask.read_bytes(), encoder.calls
    scores(encoder, videos, tmp_path, artifacts=folders)
    assert encoder.calls == calls
    scores(encoder, videos, tmp_path, artifacts=folders, task=task_of(topk="300", temperature="9"))
    assert mask.read_bytes() != content
    scores(encoder, videos, tmp_path, artifacts=folders)
    assert mask.read_bytes() == content
    mask.unlink()
    scores(encoder, videos, tmp_path, artifacts=folders)
    assert mask.read_bytes() == content


def test_an_object_lost_on_the_grid_keeps_its_channel_or_is_dropped_as_by_the_reference() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:32, :32], mask[42:44, 42:44] = 1, 2
    kept = first_labels(mask, (4, 4), 2, resize="nearest", vanished="keep")
    dropped = first_labels(mask, (4, 4), 2, resize="nearest", vanished="drop")
    assert kept.shape == (4, 4, 3)
    assert dropped.shape == (4, 4, 2)
    assert kept[..., :2].equal(dropped)
    assert vanished_objects(mask, (4, 4), 2) == (2,)
    assert vanished_objects(mask, (64, 64), 2) == ()
    soft = first_labels(mask, (4, 4), 2, resize="bilinear", vanished="keep")
    assert soft.sum(-1).allclose(soft.new_ones(4, 4))


@pytest.mark.parametrize("protocol", ["dino", "dino-parity"])
def test_lost_objects_are_noted_and_score_0(tmp_path: Path, protocol: str) -> None:
    ids = blocks((6, 9), 5, patch=16, objects=1)
    ids[:, 80:84, 130:134] = 2
    write_video(tmp_path / "v", "clip", ids)
    found = scores(MeanColour(), tmp_path / "v", tmp_path, task=task_of(protocol))[0]
    assert found.notes == {"vanished_at_patch_resolution": ["clip_2"]}
    assert found.items["J"][1] == 0.0
    assert found.n == 2


@pytest.mark.parametrize(
    ("size", "stride", "working"),
    [
        ((480, 854), 16, (480, 832)),
        ((480, 854), 8, (480, 832)),
        ((480, 910), 16, (480, 896)),
        ((480, 1152), 16, (480, 1152)),
        ((480, 854), 32, (480, 832)),
        ((480, 854), 14, (476, 840)),
        ((854, 480), 16, (832, 480)),
        ((480, 480), 16, (480, 480)),
        ((1080, 1080), 14, (476, 476)),
        ((1080, 1920), 16, (480, 832)),
        ((490, 480), 16, (448, 480)),
    ],
)
def test_frames_are_resized_as_dino_does(
    size: tuple[int, int], stride: int, working: tuple[int, int]
) -> None:
    assert working_size(size, short_side=480, long_multiple=64, stride=stride) == working


def test_crw_keeps_the_size_up_to_the_stride() -> None:
    assert working_size((480, 854), short_side=0, long_multiple=64, stride=16) == (480, 848)


def test_input_has_the_std_of_davis_unless_the_encoder_has_constants_of_its_own() -> None:
    encoder = MeanColour()
    assert task_of().settings.constants(encoder)[1] == (0.228, 0.224, 0.225)
    own = task_of(normalisation="encoder").settings.constants(encoder)
    assert own == (encoder.mean, (0.229, 0.224, 0.225))
    encoder.mean = encoder.std = (0.5, 0.5, 0.5)
    assert task_of().settings.constants(encoder) == (encoder.mean, encoder.std)
    white = to_input(
        [np.full((2, 2, 3), 255, np.uint8)], mean=(0.5,) * 3, std=(0.25,) * 3, device="cpu"
    )
    assert white.unique().tolist() == [2.0]


def test_every_constant_is_a_parameter_of_the_record(videos: Path, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    ctx, task = context(tmp_path), tasks.load("davis", "crw")
    done = runner.run(
        MeanColour(), task, f"folder:{videos}", layers=[3], ctx=ctx, store=store
    ).record
    assert done["protocol"]["id"] == "davis/crw"
    assert done["protocol"]["parameters"] == recorded_parameters(task)
    assert done["protocol"]["resolved"]["frames"] == {
        "96x144": [96, 144], "144x96": [144, 96], "112x112": [112, 112],
    }  # fmt: skip
    assert done["dataset"]["details"] == {"sequences": 3, "objects": 5}
    assert done["dataset"]["splits"] == {"val": 15}


def test_masks_asked_for_run_stored_layers_again_and_change_no_number(
    videos: Path, tmp_path: Path
) -> None:
    store, task = ResultStore(tmp_path / "results"), task_of()
    first = runner.run(
        MeanColour(), task, f"folder:{videos}", layers=[2], ctx=context(tmp_path), store=store
    )
    ctx = context(tmp_path, artifacts={"masks": tmp_path / "masks"})
    second = runner.run(MeanColour(), task, f"folder:{videos}", layers=[2], ctx=ctx, store=store)
    assert second.scored == [2]
    assert stable_view(second.record) == stable_view(first.record)
    assert len(list((tmp_path / "masks" / "layer02").rglob("*.png"))) == 15


def test_limit_takes_sequences(videos: Path, tmp_path: Path) -> None:
    found = scores(MeanColour(), videos, tmp_path, limit=2)
    assert {name.rpartition("_")[0] for name in found[0].items["object"]} == {"even", "tall"}


class Broken(MeanColour):
    def forward_layers(self, images, layers, reduce):
        images[..., 0] = float("nan")
        return super().forward_layers(images, layers, reduce)


def test_features_that_are_not_finite_are_an_error(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"even: expected finite features.*layer 1"):
        scores(Broken(), videos, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "disk"}, "Unknown value of shape 'disk'"),
        ({"vanished": "forget"}, "Unknown value of vanished"),
        ({"topk": "0"}, "topk takes a number from 1"),
        ({"temperature": "0"}, "temperature must be positive"),
    ],
)
def test_impossible_parameters_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tasks.load("davis", "dino", change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["-t", "knn", "-d", "cifar10", "--save-masks", "m"],
            "--save-masks has no effect on task knn",
        ),
        (["-t", "davis", "-d", "davis,folder:x", "--strips", "s"], "--strips goes with one task"),
        (["-t", "davis", "--csv-dir", "c", "--overwrite", "never"], "--overwrite never forbids"),
    ],
)
def test_an_output_option_without_effect_is_an_error(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", *options, "--ckpt", "none.pth"])
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_command_scores_the_miniature_and_shows_its_sequences(tmp_path: Path) -> None:
    model = Path(__file__).parents[1] / "tiny_model.py"
    arguments = [
        "run", "-t", "davis", "--ckpt", f"custom:{model}:build", "--all-layers", "-q",
        "--data-root", str(shared_mini()), "--out", str(tmp_path / "results"),
        "--set", "short_side=64", "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    record = json.loads(next((tmp_path / "results").rglob("davis-*.json")).read_text())
    assert record["dataset"]["variant"] == "mini"
    assert sorted(record["layers"]) == ["1", "2", "3"]
    assert record["layers"]["3"]["n"] == 7
    assert all(0 < entry["metrics"]["J-Mean"] < 1 for entry in record["layers"].values())
    for name in ("mini-landscape", "mini-portrait", "mini-square", "layer 3 J&F"):
        assert name in done.stdout
