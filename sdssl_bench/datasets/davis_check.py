"""`data check davis`: is a copy complete, and does every frame and mask decode and fit."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sdssl_bench.datasets.checking import CheckReport
from sdssl_bench.datasets.davis import LAYOUT, NAME, DavisData, Video, load
from sdssl_bench.datasets.video_files import read_annotation, read_frame
from sdssl_bench.errors import DataError
from sdssl_bench.system import available_cpus


def check_davis(
    *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Verify sequences, frames and objects, and every file if `decode`. Never raises for bad data."""
    try:
        data = load(NAME, data_root=data_root, allow_partial=True)
    except DataError as error:
        missing = data_root is None or "was not found" in str(error)
        state = "not found" if missing else "wrong"
        return CheckReport(NAME, False, state, problems=(str(error),))
    problems = tuple(data.notes.get("left_out", ()))
    state = "incomplete" if problems else "complete"
    unreadable = _faults(data, num_workers) if decode else None
    kind = {"official": ", the official numbers", "mini": ", the numbers of this miniature"}
    verified = [
        f"{len(data.videos)} sequences, {data.num_frames:,} frames, {data.num_objects} objects"
        + kind.get(data.variant, ""),
        "every frame has its mask; first frame and first mask have one size",
        *(
            ["every frame and mask decodes and has the size of its sequence"]
            if unreadable == ()
            else []
        ),
    ]
    return CheckReport(
        name=NAME,
        ok=state == "complete" and not unreadable,
        state=state,
        variant=data.variant,
        root=str(data.root),
        verified=tuple(verified),
        problems=problems,
        unreadable=unreadable,
        obtain="" if state == "complete" else LAYOUT,
    )


def _faults(data: DavisData, num_workers: int | None) -> tuple[str, ...]:
    workers = available_cpus() if num_workers is None else max(1, num_workers)
    with ThreadPoolExecutor(workers) as pool:
        return tuple(fault for faults in pool.map(_faults_of, data.videos) for fault in faults)


def _faults_of(video: Video) -> list[str]:
    faults = []
    for frame, mask in zip(video.frames, video.masks):
        try:
            read_frame(frame, video.size, video.size)
        except DataError as error:
            faults.append(str(error))
        try:
            read_annotation(mask, video.size)
        except DataError as error:
            faults.append(str(error))
    return faults
