"""Errors a user can cause and mend. The command line prints them without traceback.

Exit codes: 0 ok, 1 a task failed (others saved), 2 usage, 3 data or weights missing or unverified,
4 significantly worse (compare --fail-if-worse), 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Base of every error whose message says what was expected, what was found and what to do."""

    exit_code = 1


class TaskError(UserError):
    """A task could not be scored (non-finite features, images that cannot be read, ...)."""

    exit_code = 1


class UsageError(UserError):
    """The request itself is wrong: an unknown name, an impossible layer, a bad option."""

    exit_code = 2


class DataError(UserError):
    """Data or weights are missing, incomplete, corrupt or not trusted."""

    exit_code = 3


def did_you_mean(kind: str, name: str, known: Iterable[str]) -> str:
    """A sentence for an unknown name: the closest known one, and the whole list.

    >>> did_you_mean("task", "kn", ["knn", "linear"])
    "Unknown task 'kn'. Did you mean 'knn'? Known: knn, linear."
    """
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    guess = f" Did you mean '{close[0]}'?" if close else ""
    return f"Unknown {kind} '{name}'.{guess} Known: {', '.join(choices)}."
