"""`sdssl-bench run`: score layers of a checkpoint on tasks and datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdssl_bench.cli import options as opt
from sdssl_bench.cli.help import Command, Rows
from sdssl_bench.errors import UsageError

if TYPE_CHECKING:
    from sdssl_bench.encoders import Encoder

WHAT = "What to run"


class RunCommand(Command):
    """`run`, with the options that the tasks declare; they are read when first needed."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own options, then those of tasks, then --help."""
        *written, last = super().get_params(ctx)
        return [*written, *self._of_tasks(), last]

    def _of_tasks(self) -> list[Any]:
        if not hasattr(self, "_found"):
            from sdssl_bench.cli import task_options

            self._found = task_options.parameters()
        return self._found

    def invoke(self, ctx: Any) -> Any:
        """Call `run`, the options of tasks in `ctx.obj`."""
        ctx.obj = {param.name: ctx.params.pop(param.name) for param in self._of_tasks()}
        return super().invoke(ctx)

    def panels(self, ctx: Any) -> dict[str, Rows]:
        """What to run, what there is to run, then the other options."""
        from sdssl_bench.cli.listing_text import tasks_and_datasets

        first, *others = super().panels(ctx).items()
        return dict([first, *tasks_and_datasets().items(), *others])


@opt.with_encoder_options
def run(
    ctx: typer.Context,
    *,
    task: Annotated[
        list[str],
        opt.option(
            WHAT,
            "Task(s), TASK/PROTOCOL too, or all: those that lack no option.",
            "--task",
            "-t",
            takes="LIST",
        ),
    ],
    ckpt: opt.Ckpt,
    dataset: Annotated[
        list[str] | None,
        opt.option(
            WHAT,
            "Datasets, or all: each task its own.",
            "--dataset",
            "-d",
            takes="LIST",
            default="see Tasks",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        opt.option(WHAT, "Such as 1,6-12.", takes="LIST", default="the last"),
    ] = None,
    points: Annotated[
        str | None,
        opt.option(WHAT, "In a block: block, attention, mlp.", takes="LIST", default="block"),
    ] = None,
    all_layers: Annotated[bool, opt.option(WHAT, "Every layer 1..L.", "--all-layers")] = False,
    dry_run: Annotated[
        bool,
        opt.option(WHAT, "Show what would run, what it will cost, and stop.", "--dry-run"),
    ] = False,
    data_root: opt.DataRoot = None,
    limit: opt.Limit = None,
    allow_partial: Annotated[
        bool,
        opt.option(opt.DATA, "Score an incomplete dataset; recorded.", "--allow-partial"),
    ] = False,
    on_bad_image: Annotated[
        str,
        opt.option(opt.DATA, "error, or skip and count them.", takes="NAME"),
    ] = "error",
    image_range: Annotated[
        str | None,
        opt.option(opt.DATA, "LOW,HIGH of 16-bit and float images.", takes="LIST", default="none"),
    ] = None,
    encoder: dict[str, Any],
    protocol: Annotated[
        str | None,
        opt.option(opt.PROTOCOL, "Preset of the task.", takes="NAME", default="its first"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        opt.option(
            opt.PROTOCOL,
            "One parameter, or TASK.NAME=VALUE; may be repeated.",
            "--set",
            takes="NAME=VALUE",
            default="none",
        ),
    ] = None,
    seed: Annotated[
        int,
        opt.option(opt.PROTOCOL, "Of everything random.", takes="INT", min=0),
    ] = 0,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    bank_dtype: Annotated[
        str,
        opt.option(opt.SPEED, "Stored features; or float16.", takes="NAME"),
    ] = "float32",
    batch_size: opt.BatchSize = "auto",
    num_workers: opt.NumWorkers = None,
    backend: opt.Backend = "auto",
    out: opt.Out = Path("results"),
    cache_dir: opt.CacheDir = None,
    overwrite: Annotated[
        str,
        opt.option(
            opt.OUTPUT,
            "Layers: missing, always or never.",
            takes="NAME",
        ),
    ] = "missing",
    wide: opt.Wide = False,
    quiet: opt.Quiet = False,
) -> None:
    """Score layers of a checkpoint, one forward pass for all of them.

    sdssl-bench run -t knn -d cifar10,flowers -c encoder.safetensors --all-layers
    """
    from sdssl_bench import checkpoints
    from sdssl_bench.api import at_points, task_runs
    from sdssl_bench.cli import asked_tasks, running, task_options
    from sdssl_bench.cli.plan import print_plan
    from sdssl_bench.datasets import values_within
    from sdssl_bench.encoders import BLOCK
    from sdssl_bench.system import Progress, is_main_process, join

    values = task_options.given(ctx.obj)
    names, left_out = asked_tasks.chosen_tasks(task, values)
    assigned = opt.assignments("--set", changes)
    chosen = asked_tasks.loaded(names, protocol, values, assigned=assigned)
    every = "all" in opt.comma_list("--task", task)
    pairs = task_runs(chosen, opt.comma_list("--dataset", dataset), every=every)
    _check_range(image_range, [name for _, name in pairs])
    places = opt.comma_list("--points", None if points is None else [points]) or [BLOCK]
    pairs, cutting = running.with_points(pairs, places, every=every)
    left_out += cutting
    artifacts = task_options.artifact_folders(values, pairs * len(places), overwrite=overwrite)
    join()
    progress = Progress(quiet=quiet or not is_main_process())
    context = running.run_context(
        data_root=data_root,
        cache_dir=cache_dir,
        device=running.check_device(device),
        dtype=dtype,
        bank_dtype=bank_dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        limit=limit,
        allow_partial=allow_partial,
        on_bad_image=on_bad_image,
        image_range=image_range,
        backend=backend,
        artifacts=artifacts,
        inputs=task_options.input_folders(values),
        against=task_options.second_encoder(values, norm=encoder["norm"]),
        progress=progress,
    )
    opt.choice("--overwrite", overwrite, ("missing", "always", "never"))
    loaded: Encoder = checkpoints.load(ckpt, **encoder)
    asked = running.wanted_layers(loaded, layers, all_layers=all_layers)
    idle = [one.name for one in chosen if one.name not in {kind.name for kind, _ in pairs}]
    if idle:
        left_out.append(f"{', '.join(idle)} (none of the datasets given)")
    if left_out and is_main_process():
        typer.echo(f"left out: {', '.join(left_out)}", err=True)
    if dry_run:
        with values_within(context.image_range):
            code = print_plan(
                at_points(loaded, context, places),
                pairs,
                asked,
                out=out.expanduser(),
                overwrite=overwrite,
            )
    else:
        with progress, values_within(context.image_range):
            code = running.run_all(
                loaded,
                pairs,
                asked,
                ctx=context,
                out=out.expanduser(),
                overwrite=overwrite,
                wide=wide,
                points=places,
            )
    if code:
        raise typer.Exit(code)


def _check_range(given: str | None, names: list[str]) -> None:
    """Frames of videos are read by OpenCV as 8-bit images: no option has no effect."""
    from sdssl_bench.datasets import kind_of

    videos = [name for name in names if kind_of(name) == "video"]
    if given is not None and videos:
        raise UsageError(
            f"--image-range would have no effect on the frames of {', '.join(videos)}; score these in a "
            "command of their own."
        )
