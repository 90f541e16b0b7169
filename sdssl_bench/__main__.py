"""`python -m sdssl_bench` is `sdssl-bench`."""

from sdssl_bench.cli import start as main

if __name__ == "__main__":
    main()
