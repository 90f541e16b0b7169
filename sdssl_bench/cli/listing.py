"""`sdssl-bench ls` and `show`: what there is, and what each thing is exactly."""

from typing import Annotated

import typer

KINDS = ("tasks", "datasets", "protocols", "models")
MODELS = (
    "FILE                                  own format, timm/DeiT/MAE, DINO, MoCo v3, SDSSL, DINOv2, "
    "iBOT; .safetensors, .npz, or whatever torch.save wrote (nothing in it is run)",
    "FOLDER                                of Hugging Face or torch.distributed.checkpoint",
    "timm:NAME                             pretrained weights from the timm hub, e.g. "
    "timm:vit_small_patch16_224.dino",
    "timm:NAME?pretrained=false&seed=0     an untrained encoder, labelled so",
    "custom:FILE.py:FUNCTION               a function of yours that returns the model; its attribute "
    "`pretrained`, True or False, says whether it was trained; layers = [names of parts] in FILE.py takes "
    "any network",
    "control:pixels, control:statistics    encoders that learned nothing: what every score has to beat",
)


def ls(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="tasks, datasets, protocols or models.")
    ] = "tasks",
) -> None:
    """List tasks, datasets, protocols, or the ways to name a model."""
    from sdssl_bench.cli.listing_text import dataset_lines, protocol_lines, task_lines
    from sdssl_bench.cli.options import choice

    choice("ls", kind, KINDS)
    if kind == "models":
        lines = list(MODELS)
    elif kind == "datasets":
        lines = dataset_lines()
    else:
        lines = task_lines() if kind == "tasks" else protocol_lines()
    for line in lines:
        typer.echo(line)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A task, dataset, or protocol id.")],
) -> None:
    """Everything about one task, dataset or protocol (such as knn/dino)."""
    from sdssl_bench.cli.listing_text import describe

    typer.echo(describe(name))
