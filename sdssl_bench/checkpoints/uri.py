"""What `--ckpt` may name: a local file, `timm:NAME?key=value`, or `custom:file.py:function`."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from sdssl_bench.errors import UsageError, did_you_mean

SCHEMES = ("timm", "custom", "file")
_TIMM_KEYS = ("pretrained", "seed", "img_size")


@dataclass(frozen=True)
class Uri:
    """A parsed `--ckpt`.

    Attributes:
        scheme: "file", "timm" or "custom".
        target: path, timm name, or "file.py:function".
        query: key=value pairs after "?" (timm only), their keys known.
    """

    scheme: str
    target: str
    query: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The target of a file URI, with ~ expanded."""
        return Path(self.target).expanduser()


def parse(text: str) -> Uri:
    """Reads what the user typed; an existing file wins over any other reading.

    Raises:
        UsageError: for an empty text, an unknown scheme or an unknown, repeated or empty query key.

    >>> parse("timm:vit_tiny_patch16_224?pretrained=false&seed=0").query
    {'pretrained': 'false', 'seed': '0'}
    >>> parse("~/weights.pth").scheme
    'file'
    """
    text = text.strip()
    if not text:
        raise UsageError("--ckpt is empty; it takes a file, timm:NAME or custom:file.py:function.")
    match = re.match(r"^([A-Za-z][A-Za-z0-9_+-]+):(.*)$", text, flags=re.DOTALL)
    if match is None or Path(text).expanduser().exists():
        return Uri("file", text)
    scheme, target = match[1].lower(), match[2]
    if scheme not in SCHEMES:
        raise UsageError(did_you_mean("checkpoint scheme", scheme, SCHEMES))
    if scheme != "timm":
        return Uri(scheme, target.removeprefix("//") if scheme == "file" else target)
    name, _, query = target.partition("?")
    if not name:
        raise UsageError("timm: needs a model name, e.g. timm:vit_small_patch16_224.dino")
    return Uri("timm", name, _query(query))


def _query(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    if text and not pairs:
        raise UsageError(f"Expected key=value pairs after '?', found '{text}'.")
    found: dict[str, str] = {}
    for key, value in pairs:
        if key not in _TIMM_KEYS:
            raise UsageError(did_you_mean("key of a timm: URI", key, _TIMM_KEYS))
        if key in found or not value:
            raise UsageError(f"'{key}' needs one value in '{text}'.")
        found[key] = value
    return found


def flag(query: dict[str, str], key: str, default: bool) -> bool:
    """A boolean of the query.

    Raises:
        UsageError: unless it is true or false.
    """
    value = query.get(key, str(default)).lower()
    if value not in ("true", "false", "1", "0"):
        raise UsageError(f"{key} takes true or false, found '{value}'.")
    return value in ("true", "1")


def integer(query: dict[str, str], key: str) -> int | None:
    """A non-negative integer of the query, None if it is absent.

    Raises:
        UsageError: if it is something else.
    """
    value = query.get(key)
    if value is not None and not value.isdecimal():
        raise UsageError(f"{key} takes a non-negative integer, found '{value}'.")
    return None if value is None else int(value)
