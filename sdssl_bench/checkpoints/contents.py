"""What a checkpoint file holds, in words: for files that could not be loaded."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sdssl_bench.checkpoints.formats import ADAPTERS
from sdssl_bench.checkpoints.keys import as_state, listing
from sdssl_bench.checkpoints.native import METADATA_KEY
from sdssl_bench.checkpoints.reading import CheckpointFile, file_sha256, read_file
from sdssl_bench.errors import DataError


def describe(path: Path) -> str:
    """Lines about container, keys, prefixes and adapters; "" if the file cannot even be read."""
    try:
        file = read_file(path)
    except DataError:
        return ""
    lines = [
        f"file      {path} ({path.stat().st_size / 1e6:.1f} MB, {file.container})",
        f"sha256    {file_sha256(path)}",
    ]
    state = as_state(file.content)
    if state is not None:
        lines += [f"content   a state dict of {len(state)} tensors", *_tensors(state)]
    else:
        for key, value in list(file.content.items())[:20]:
            inner = as_state(value)
            what = f"state dict of {len(inner)} tensors" if inner else _brief(value)
            lines += [f"key       {key}: {what}", *(_tensors(inner) if inner else [])]
    return "\n".join([*lines, *_adapters(file)])


def _tensors(state: Mapping[str, Tensor]) -> list[str]:
    prefixes = Counter(key.split(".")[0] for key in state)
    common = [f"{name} ({count})" for name, count in prefixes.most_common(12)]
    first = [f"{key} {tuple(value.shape)}" for key, value in list(state.items())[:5]]
    return [f"  prefixes  {listing(common, 12)}", f"  first     {', '.join(first)}"]


def _brief(value: object) -> str:
    if isinstance(value, bool | int | float | str):
        return f"{type(value).__name__} {str(value)[:60]!r}"
    size = f" of {len(value)}" if isinstance(value, Mapping | list | tuple) else ""
    return type(value).__name__ + size


def _adapters(file: CheckpointFile) -> list[str]:
    verdicts = [f"sdssl-bench {'yes' if METADATA_KEY in file.metadata else 'no'}"]
    verdicts += [f"{name} {'yes' if adapter(file) else 'no'}" for name, adapter in ADAPTERS.items()]
    return [f"formats   {', '.join(verdicts)}"]
