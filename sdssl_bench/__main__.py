"""`python -m sdssl_bench` is `sdssl-bench`."""

import sys

from sdssl_bench.cli import app
from sdssl_bench.system import lifetime


def main(*before: str) -> None:
    """Run the command line; `before` stands before what was typed."""
    with lifetime.without_finalisation():
        app([*before, *sys.argv[1:]], prog_name="sdssl-bench")


if __name__ == "__main__":
    main()
