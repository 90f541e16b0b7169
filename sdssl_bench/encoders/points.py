"""Where in a transformer block features are taken.

A block adds two branches to the residual stream x:

    middle = x + attention,    block = middle + mlp

block      the stream after the block, what `--layers` alone gives
attention  what the block adds first: the output of its attention, with everything that lies between this and
           the sum (output projection, LayerScale, a norm of the branch's own)
mlp        what it adds second, likewise

So x + attention + mlp = block, to the bit, and `check_branches` proves it of every block of an encoder before
a number is made. Odonnat et al. 2026 ("Layer by layer, module by module", arXiv 2603.05280) probe the modules
of ViT blocks one by one and find that the stream after the block is not the best place.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from sdssl_bench.encoders.intermediate import outputs_of
from sdssl_bench.errors import UsageError, did_you_mean

BLOCK = "block"
POINTS = (BLOCK, "attention", "mlp")
BRANCHES = {"attention": "drop_path1", "mlp": "drop_path2"}
"""Point -> the part of timm's blocks whose output is added to the stream: the last step of a branch,
stochastic depth, which does nothing to a frozen encoder."""


class AtPoints(nn.Module):
    """A network whose features may be taken at several points of its layers."""

    _points: tuple[str, ...] = (BLOCK,)
    _point: str = BLOCK

    @property
    def point(self) -> str:
        """Where in a block its features are taken, one of POINTS."""
        return self._point

    @property
    def points(self) -> tuple[str, ...]:
        """All points that were asked for together: who extracts one of them extracts all, in one pass."""
        return self._points

    @property
    def place(self) -> dict[str, str]:
        """What identities of features and scores say of the point: nothing of a block's output."""
        return {} if self.point == BLOCK else {"point": self.point}

    def at_points(self, points: Sequence[str]) -> list[Self]:
        """This network at some points in its blocks; modules and weights are shared.

        Args:
            points: any of POINTS.

        Raises:
            UsageError: for an unknown point, or one that this network does not have.
        """
        asked = tuple(dict.fromkeys(points))
        for point in asked:
            if point not in POINTS:
                raise UsageError(did_you_mean("point in a block", point, POINTS))
        if not asked:
            raise UsageError(f"No point in a block was asked for. Known: {', '.join(POINTS)}.")
        if asked != (BLOCK,):
            self.check_points()
        views = [copy.copy(self) for _ in asked]
        for view, point in zip(views, asked, strict=True):
            view._points, view._point = asked, point
        return views

    def check_points(self) -> None:
        """Proves that attention and MLP of each layer can be told apart.

        Raises:
            UsageError: if not.
        """
        model = getattr(self, "model", self)
        raise UsageError(
            "--points attention and mlp are places in the blocks of vision transformers (ViT, DINOv2, "
            f"DINOv3, EVA); the layers of {type(model).__name__} are no such blocks. Leave --points at block."
        )


def module_at(block: nn.Module, point: str) -> nn.Module:
    """The module of a block whose output a point is."""
    return block if point == BLOCK else block.get_submodule(BRANCHES[point])


def check_branches(model: Any, run: Callable[[], Any]) -> None:
    """Proves on one pass that each block adds its two branches to the stream, and nothing else.

    Args:
        model: with `blocks`; it is in eval mode meanwhile.
        run: a forward pass through all of them.

    Raises:
        UsageError: naming the first block for which that is not so.
    """
    blocks: list[nn.Module] = list(model.blocks)
    for number, block in enumerate(blocks, 1):
        parts = dict(block.named_children())
        if not set(BRANCHES.values()) <= parts.keys():
            raise _not_apart(number, block)
    modules = {
        (number, point): module_at(block, point)
        for number, block in enumerate(blocks, 1)
        for point in BRANCHES
    }
    found: dict[tuple[int, str], list[Tensor]] = {place: [] for place in modules}

    def summed(number: int, block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        attention, mlp = (found.pop((number, point), []) for point in BRANCHES)
        once = len(attention) == len(mlp) == 1
        # The same sums in the same order: nothing is rounded otherwise.
        if not once or not torch.equal(inputs[0] + attention[0] + mlp[0], output):
            raise _not_apart(number, block)

    training = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        for module, mode in training.items():
            stack.callback(setattr, module, "training", mode)
        model.eval()
        stack.enter_context(outputs_of(modules, lambda place, out: found[place].append(out)))
        for number, block in enumerate(blocks, 1):

            def hook(part: nn.Module, inputs: Any, output: Any, number: int = number) -> None:
                summed(number, part, inputs, output)

            stack.callback(block.register_forward_hook(hook).remove)
        with torch.no_grad():
            run()


def _not_apart(number: int, block: nn.Module) -> UsageError:
    return UsageError(
        f"--points attention and mlp need blocks that add attention and MLP to the stream one after the "
        f"other; block {number} of this encoder, a {type(block).__name__}, does not. Leave --points at block."
    )
