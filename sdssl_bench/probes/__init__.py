"""Linear heads, logistic regression and fine-tuning on top of an encoder.

In: feature banks, or an encoder with training images. Out: scores of every layer on test images, and what
validation chose.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.probes.augment import (
        RESAMPLING as RESAMPLING,
    )
    from sdssl_bench.probes.augment import (
        RandomCropFlip as RandomCropFlip,
    )
    from sdssl_bench.probes.augment import (
        random_box as random_box,
    )
    from sdssl_bench.probes.finetuning import (
        TuneRecipe as TuneRecipe,
    )
    from sdssl_bench.probes.inputs import (
        needed as needed,
    )
    from sdssl_bench.probes.inputs import (
        parts_of as parts_of,
    )
    from sdssl_bench.probes.logreg_probe import (
        score_logreg_layers as score_logreg_layers,
    )
    from sdssl_bench.probes.mixing import (
        Mixing as Mixing,
    )
    from sdssl_bench.probes.multi_exit import (
        ExitReport as ExitReport,
    )
    from sdssl_bench.probes.multi_exit import (
        exit_report as exit_report,
    )
    from sdssl_bench.probes.multi_exit import (
        throughput as throughput,
    )
    from sdssl_bench.probes.sgd_probe import (
        SgdRecipe as SgdRecipe,
    )
    from sdssl_bench.probes.sgd_scores import (
        score_sgd_layers as score_sgd_layers,
    )
    from sdssl_bench.probes.sweep import (
        SWEEPS as SWEEPS,
    )
    from sdssl_bench.probes.tunable import (
        takes_drop_path as takes_drop_path,
    )
    from sdssl_bench.probes.tuning_scores import (
        SELECT as SELECT,
    )
    from sdssl_bench.probes.tuning_scores import (
        make_job as make_job,
    )
    from sdssl_bench.probes.tuning_scores import (
        score_tuned_layers as score_tuned_layers,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
