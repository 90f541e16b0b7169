"""Where something stands in a TOML file, so that what is wrong there is said with its line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdssl_bench.errors import UsageError, UserError, did_you_mean


@dataclass(frozen=True)
class PlanFile:
    """The text of a plan, to say where something stands in it."""

    path: Path
    text: str

    def at(self, *keys: str) -> "_Place":
        """Inside, what a user can mend is said with its line."""
        return _Place(self, keys)

    def known(self, table: tuple[str, ...], given: Any, keys: Sequence[str]) -> None:
        """Proves that a table is one and has these keys at most."""
        with self.at(*table):
            if not isinstance(given, dict):
                raise UsageError(f"{'.'.join(table)} is a table, found {given!r}.")
        for key in given:
            if key not in keys:
                with self.at(*table, key):
                    where = f"[{'.'.join(table)}]" if table else "a plan"
                    raise UsageError(did_you_mean(f"key of {where}", key, keys))

    def line(self, keys: Sequence[str]) -> int | None:
        """The line of a key, or of the table that holds it."""
        found, table = None, ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if match := re.match(r"\s*\[+\s*(.+?)\s*\]+\s*(#.*)?$", line):
                table, here = match[1], match[1]
            elif match := re.match(r"\s*([\w.\"'/-]+)\s*=", line):
                here = f"{table}.{match[1]}" if table else match[1]
            else:
                continue
            here = re.sub(r"[\"']", "", here)
            for count in range(len(keys), 0, -1):
                if here == ".".join(keys[:count]) and (found is None or count > found[0]):
                    found = count, number
        return found[1] if found else None


@dataclass(frozen=True)
class _Place:
    file: PlanFile
    keys: tuple[str, ...]

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        # The innermost place is the line.
        if isinstance(error, UserError) and not str(error).startswith(f"{self.file.path}"):
            line = self.file.line(self.keys)
            where = f", line {line}" if line else ""
            raise type(error)(f"{self.file.path}{where}: {error}") from None
