"""A file or a name becomes an encoder that is what it claims to be.

In: what `--ckpt` names. Out: an `Encoder` in eval mode that knows its name, its network and its digest,
or an error that says what the file holds.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.checkpoints import hub
    from sdssl_bench.checkpoints.diagnosis_text import render
    from sdssl_bench.checkpoints.doctor import diagnose
    from sdssl_bench.checkpoints.files import file_sha256
    from sdssl_bench.checkpoints.gathering import file_identity, gather, whole
    from sdssl_bench.checkpoints.hub import check_before_imports
    from sdssl_bench.checkpoints.loading import load
    from sdssl_bench.checkpoints.native import save
    from sdssl_bench.checkpoints.released_weights import fetch_weights
    from sdssl_bench.checkpoints.renaming import Translated
    from sdssl_bench.checkpoints.styles import Style
    from sdssl_bench.checkpoints.verify import digest_of_module
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
