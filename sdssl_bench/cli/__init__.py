"""What can be typed: one file a command; `start` runs what was typed.

In: arguments. Out: text on the terminal, files where asked, an exit code. Nothing heavy is imported
before a command runs.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.cli import running, task_options
    from sdssl_bench.cli.main import start
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
