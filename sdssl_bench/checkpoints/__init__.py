"""A file or a name becomes an encoder that is what it claims to be.

In: what `--ckpt` names. Out: an `Encoder` in eval mode that knows its name, its network and its digest,
or an error that says what the file holds.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.checkpoints.digests import (
        digest_of_module as digest_of_module,
    )
    from sdssl_bench.checkpoints.doctor import (
        diagnose as diagnose,
    )
    from sdssl_bench.checkpoints.doctor import (
        render as render,
    )
    from sdssl_bench.checkpoints.loading import (
        load as load,
    )
    from sdssl_bench.checkpoints.native import (
        save as save,
    )
    from sdssl_bench.checkpoints.reading import (
        file_sha256 as file_sha256,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
