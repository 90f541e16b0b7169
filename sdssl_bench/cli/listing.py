"""`sdssl-bench ls` and `show`: what there is, and what each thing is exactly."""

from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated

import typer

KINDS = ("tasks", "datasets", "protocols", "models", "pages")
MODELS = {
    "FILE": "a whole backbone under any prefix, in the names of timm, torchvision, Hugging Face, mmpretrain, "
    "CLIP, Meta, JAX or our own; what torch.save wrote, .safetensors or .npz (nothing in it is run)",
    "FOLDER": "of Hugging Face or torch.distributed.checkpoint",
    "hf:ORG/NAME[@revision]": "of the Hugging Face hub or its cache; the commit is recorded",
    "timm:NAME": "pretrained weights of any of timm's backbones, e.g. timm:vit_small_patch16_224.dino",
    "timm:NAME?pretrained=false&seed=0": "an untrained encoder, labelled so",
    "custom:FILE.py:FUNCTION": "a function of yours that returns the model; its attribute `pretrained`, True "
    "or False, says whether it was trained; layers = [names of parts] in FILE.py takes any network",
    "control:pixels, control:statistics": "encoders that learned nothing: what every score has to beat",
}


def ls(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="tasks, datasets, protocols, models or pages.")
    ] = "tasks",
) -> None:
    """List tasks, datasets, protocols, the ways to name a model, or the pages to read."""
    from sdssl_bench.cli.listing_text import (
        dataset_lines,
        page_lines,
        protocol_lines,
        task_lines,
    )
    from sdssl_bench.cli.options import choice

    choice("ls", kind, KINDS)
    if kind == "models":
        width = get_terminal_size().columns
        lines = [
            fill(f"{name}  {text}", width, subsequent_indent="    ")
            for name, text in MODELS.items()
        ]
    elif kind == "datasets":
        lines = dataset_lines()
    else:
        made = {"tasks": task_lines, "protocols": protocol_lines, "pages": page_lines}
        lines = made[kind]()
    for line in lines:
        typer.echo(line)


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A task, dataset, protocol id or page.")
    ],
) -> None:
    """Everything about one task, dataset or protocol (such as knn/dino), or a page to read."""
    from sdssl_bench.cli.listing_text import describe

    typer.echo(describe(name))
