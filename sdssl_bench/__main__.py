"""`python -m sdssl_bench` is `sdssl-bench`."""

from sdssl_bench.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="sdssl-bench")


if __name__ == "__main__":
    main()
