"""The backbones in a file: every prefix, at any depth, under which the names of one are all there.

Nothing is known here of whose file it is. What stands beside a backbone is left out and counted by its
group; what stands inside it and is no head keeps its name, so that `verify` refuses it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sdssl_bench.checkpoints.keys import Flat, State, under
from sdssl_bench.checkpoints.renaming import Translated
from sdssl_bench.checkpoints.styles import Style
from sdssl_bench.checkpoints.styles import styles as known_styles

HEADS = re.compile(
    r".*(head|classif|proj|pred|decoder|mask|queue|logit|loss|center|last_layer|linear|pool|temperature|lm_)"
    r"|fc\d*$|cls_norm|local_cls_norm|log_.*",
    re.IGNORECASE,
)
"""First parts of names, beside a backbone's own, that only training needs: heads, decoders, queues, masks."""

CONTAINERS = {"state_dict", "model"}
GENERIC = CONTAINERS | {
    "backbone", "encoder", "net", "network", "trunk", "visual", "vit", "deit", "dinov2", "ijepa", "resnet",
    "feature_extractor", "base_model", "vision_model", "image_encoder", "embedder", "core",
}  # fmt: skip
"""Parts of a prefix that say nothing about which network it is."""
ALIASES = {
    "base_encoder": "base", "momentum_encoder": "momentum", "state_dict_ema": "ema", "model_ema": "ema",
    "ema_state_dict": "ema", "ema_model": "ema", "teacher_model": "teacher", "student_model": "student",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone of a file.

    Attributes:
        name: what `--network` calls it.
        prefix: what stands before its names, dictionaries included; "" or ending in a dot.
        style: of its names.
        home: the part of the prefix that is dictionaries; what lies outside is another matter.
        state: its tensors under their own names, heads left out.
        dropped: number of tensors left out of its home, by group.
        whole: whether its blocks are all alike and none is missing.
    """

    name: str
    prefix: str
    style: Style
    home: str
    state: State
    dropped: Mapping[str, int]
    whole: bool

    def translate(self) -> Translated:
        """Under timm's names."""
        return self.style.translate(self.state)

    @property
    def inside(self) -> str:
        """The prefix within its home."""
        return self.prefix[len(self.home) :]


def find_networks(flat: Flat, styles: Sequence[Style] | None = None) -> dict[str, Network]:
    """Name -> backbone, in the order of the styles and the file; empty if there is none."""
    found: dict[str, Style] = {}
    for style in styles or known_styles():
        for prefix in style.prefixes(flat):
            found.setdefault(prefix, style)
    # What stands within the blocks of another backbone is a part of it.
    outer = {
        prefix: style
        for prefix, style in found.items()
        if not any(
            prefix != o and prefix.startswith(o) and other.owns(prefix[len(o) :])
            for o, other in found.items()
        )
    }
    states = {
        prefix: {
            key: tensor
            for key, tensor in under(flat, prefix).items()
            if style.owns(key)
            or not (HEADS.match(key.split(".")[0]) or _within(prefix + key, prefix, outer))
        }
        for prefix, style in outer.items()
    }
    names = _names(list(outer))
    homes = {prefix: _home(flat, prefix, state) for prefix, state in states.items()}
    return {
        names[prefix]: Network(
            names[prefix], prefix, outer[prefix], homes[prefix], state,
            _left_out(flat, homes[prefix], prefix, states), not _gaps(state),
        )
        for prefix, state in states.items()
    }  # fmt: skip


def _within(name: str, prefix: str, prefixes: Iterable[str]) -> bool:
    """Whether a name stands under a longer prefix, which is another backbone's."""
    return any(len(one) > len(prefix) and name.startswith(one) for one in prefixes)


_BLOCK = re.compile(
    r"((?:encoder\.|transformer\.)?(?:blocks|layers?|resblocks)\.|Transformer/encoderblock_)(\d{1,4})[./](.*)"
)


def _gaps(state: State) -> bool:
    """Whether numbered blocks are not all alike: one of them, or a tensor of one, is missing."""
    blocks: dict[int, set[str]] = {}
    for key in state:
        if found := _BLOCK.match(key):
            blocks.setdefault(int(found[2]), set()).add(found[3])
    return sorted(blocks) != list(range(len(blocks))) or any(
        names != blocks[0] for names in blocks.values()
    )


def _home(flat: Flat, prefix: str, state: State) -> str:
    """The dictionaries that the prefix goes through."""
    shortest = min((flat.homes[prefix + key] for key in state), key=len)
    return shortest if prefix.startswith(shortest) else prefix


def _left_out(flat: Flat, home: str, prefix: str, states: Mapping[str, State]) -> dict[str, int]:
    """Counts of the other tensors in the home.

    Backbones by their prefix, the rest by the first part that tells them from every backbone.
    """
    groups: Counter[str] = Counter()
    inside = [one for one in states if one.startswith(home)]
    for name in flat:
        owners = [one for one in inside if name.startswith(one) and name[len(one) :] in states[one]]
        if not name.startswith(home) or prefix in owners:
            continue
        parts = name[len(home) :].split(".")
        count = 1 + max(_shared(parts, one[len(home) :].split(".")[:-1]) for one in inside)
        group = ".".join(parts[:count]) + ("." if len(parts) > count else "")
        groups[owners[0][len(home) :] if owners and owners[0] != home else group] += 1
    return dict(groups)


def _shared(parts: Sequence[str], others: Sequence[str]) -> int:
    """Number of parts that two names have in common, from the first on."""
    pairs = enumerate(zip(parts, others, strict=False))
    return next((i for i, (mine, other) in pairs if mine != other), min(len(parts), len(others)))


def _names(prefixes: Sequence[str]) -> dict[str, str]:
    """Prefix -> name: the part that says which network it is, "model" if none does; never one name twice."""
    telling = {}
    for prefix in prefixes:
        parts = [part for part in prefix.split(".") if part]
        said = [ALIASES.get(part, part) for part in parts if part not in GENERIC]
        rest = [part for part in parts if part not in CONTAINERS]
        several = len(prefixes) > 1 and rest
        telling[prefix] = said[0] if said else rest[-1] if several else "model"
    counts = Counter(telling.values())
    return {
        prefix: name if counts[name] == 1 else prefix.rstrip(".") or "model"
        for prefix, name in telling.items()
    }
