"""What a record's numbers are, in one line for the head of a table."""

from collections.abc import Mapping
from typing import Any

from sdssl_bench.system import shortened


def variant_mark(variant: str) -> str:
    """What stands behind the name of data that are not the whole official set.

    >>> variant_mark("official"), variant_mark("partial")
    ('', ' (partial)')
    """
    return "" if variant in ("official", "folder") else f" ({variant})"


def record_title(record: Mapping[str, Any]) -> str:
    """What a table's numbers are: protocol, data, model, and everything unusual about them."""
    model, data, protocol = record["model"], record["dataset"], record["protocol"]
    parts = [
        f"{protocol['id']}@{protocol['version']}",
        f"{data['name']}{variant_mark(data['variant'])}",
        f"{shortened(model['name'], 56)} [{model['network']}, norm {model['norm']}]",
    ]
    if not model["pretrained"]:
        parts.append("UNTRAINED")
    if record["limited"] is not None:
        parts.append(f"limited to {record['limited']} items per split")
    return " · ".join(parts)
