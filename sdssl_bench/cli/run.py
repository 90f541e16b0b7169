"""`sdssl-bench run`: score layers of a checkpoint on tasks and datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdssl_bench.cli import options as opt

if TYPE_CHECKING:
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.task import Task


def run(
    task: Annotated[
        list[str], typer.Option("--task", "-t", help="Task(s): repeat or separate by commas.")
    ],
    ckpt: opt.Ckpt,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset", "-d", help="Dataset(s), 'all', or folder:PATH: repeat or use commas."
        ),
    ] = None,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="Every layer 1..L.")] = False,
    layers: Annotated[
        str | None, typer.Option(help="Layers such as 1,6-12; default: the last.")
    ] = None,
    data_root: opt.DataRoot = None,
    out: opt.Out = Path("results"),
    protocol: Annotated[
        str | None, typer.Option(help="Protocol preset of the task; default: its first.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="One protocol parameter, NAME=VALUE.")
    ] = None,
    norm: opt.Norm = None,
    network: opt.Network = None,
    arch: opt.Arch = None,
    heads: opt.Heads = None,
    patch_size: opt.PatchSize = None,
    img_size: opt.ImgSize = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    bank_dtype: Annotated[
        str, typer.Option(help="Stored features: float32, or float16 at half the disk.")
    ] = "float32",
    batch_size: opt.BatchSize = "auto",
    num_workers: Annotated[
        int | None, typer.Option("--num-workers", "-j", min=0, help="Image-loading processes.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Search by auto, torch or faiss.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-L", min=1, help="N images per split; never in a leaderboard."),
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Score an incomplete dataset; recorded.")
    ] = False,
    on_bad_image: Annotated[
        str, typer.Option(help="error, or skip unreadable images and count them.")
    ] = "error",
    overwrite: Annotated[
        str, typer.Option(help="Stored layers: missing (keep), always (redo), never (touch).")
    ] = "missing",
    imsize: Annotated[
        str | None, typer.Option(help="Longest side, or side, in pixels (retrieval, copydays).")
    ] = None,
    scales: Annotated[
        str | None, typer.Option(help="Scales to average over, such as 1,0.7071,0.5 (retrieval).")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="cls, gem, mean; copydays: cls+gem (retrieval, copydays).")
    ] = None,
    query_crop: Annotated[
        bool | None,
        typer.Option(
            "--query-crop/--no-query-crop", help="Crop queries to their landmark (retrieval)."
        ),
    ] = None,
    distractors: Annotated[
        Path | None,
        typer.Option(help="Folder of distractor images (retrieval, copydays).", show_default=False),
    ] = None,
    whitening: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images to learn whitening from (copydays).", show_default=False
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Write pictures of the worst queries here (retrieval, copydays).",
            show_default=False,
        ),
    ] = None,
    save_masks: Annotated[
        Path | None,
        typer.Option(
            help="Write predicted masks here: DIR/layer12/SEQUENCE/00000.png (davis).",
            show_default=False,
        ),
    ] = None,
    strips: Annotated[
        Path | None,
        typer.Option(help="Write pictures of frames x layers here (davis).", show_default=False),
    ] = None,
    csv_dir: Annotated[
        Path | None,
        typer.Option(help="Write the official CSV files here (davis).", show_default=False),
    ] = None,
    panels: Annotated[
        Path | None,
        typer.Option(help="Write t-SNE maps of the layers here (analysis).", show_default=False),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Second checkpoint, named as --ckpt is (cka).", show_default=False),
    ] = None,
    against_set: Annotated[
        list[str] | None,
        typer.Option(
            "--against-set",
            help="Option of the second checkpoint, such as heads=12 or network=teacher (cka).",
        ),
    ] = None,
    cache_dir: opt.CacheDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and stop.")
    ] = False,
    wide: opt.Wide = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Score layers of a checkpoint on frozen features, one forward pass for all of them.

    sdssl-bench run --task knn --dataset cifar10,flowers --ckpt encoder.safetensors --all-layers
    """
    from sdssl_bench import checkpoints, tasks
    from sdssl_bench.cli.running import (
        artifact_folders,
        check_device,
        dataset_names,
        input_folders,
        print_plan,
        run_all,
        second_encoder,
        wanted_layers,
    )
    from sdssl_bench.system import Progress, default_cache, is_main_process, join
    from sdssl_bench.task import RunContext

    flags = {
        "imsize": imsize,
        "scales": scales,
        "pool": pool,
        "query-crop": None if query_crop is None else str(query_crop),
    }
    chosen: list[Task] = [
        tasks.load(
            name, protocol, {**tasks.shorthand(name, flags), **opt.assignments(changes or [])}
        )
        for name in opt.comma_list(task)
    ]
    floats = ("float32", "bfloat16", "float16")
    pairs: list[tuple[Any, str]] = [
        (one, name) for one in chosen for name in dataset_names(one, opt.comma_list(dataset or []))
    ]
    artifacts = artifact_folders(
        {
            "masks": save_masks,
            "strips": strips,
            "csv": csv_dir,
            "gallery": gallery,
            "panels": panels,
        },
        pairs,
        overwrite=overwrite,
    )
    join()
    progress = Progress(quiet=quiet or not is_main_process())
    ctx: RunContext = RunContext(
        data_root=data_root.expanduser() if data_root else None,
        cache_dir=cache_dir.expanduser() if cache_dir else default_cache(),
        device=check_device(device),
        dtype=opt.choice("--dtype", dtype, floats),
        bank_dtype=opt.choice("--bank-dtype", bank_dtype, ("float32", "float16")),
        batch_size=opt.batch_size(batch_size),
        num_workers=num_workers,
        seed=seed,
        limit=limit,
        allow_partial=allow_partial,
        on_bad_image=opt.choice("--on-bad-image", on_bad_image, ("error", "skip")),
        backend=opt.choice("--backend", backend, ("auto", "torch", "faiss")),
        artifacts=artifacts,
        inputs=input_folders({"distractors": distractors, "whitening": whitening}, pairs),
        against=second_encoder(against, opt.assignments(against_set or []), pairs, norm=norm),
        progress=progress,
    )
    opt.choice("--overwrite", overwrite, ("missing", "always", "never"))
    encoder: Encoder = checkpoints.load(
        ckpt,
        network=network,
        arch=arch,
        heads=heads,
        patch_size=patch_size,
        img_size=img_size,
        norm=norm,
    )
    asked = wanted_layers(encoder, layers, all_layers=all_layers)
    if dry_run:
        print_plan(encoder, pairs, asked, ctx=ctx, out=out)
        return
    with progress:
        code = run_all(
            encoder, pairs, asked, ctx=ctx, out=out.expanduser(), overwrite=overwrite, wide=wide
        )
    if code:
        raise typer.Exit(code)
