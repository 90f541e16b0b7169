"""Linear heads, logistic regression and fine-tuning on top of an encoder.

In: feature banks, or an encoder with training images. Out: scores of every layer on test images, and what
validation chose.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.probes.augment import RESAMPLING, RandomCropFlip, random_box
    from sdssl_bench.probes.finetuning.mixing import Mixing
    from sdssl_bench.probes.finetuning.recipe import TuneRecipe
    from sdssl_bench.probes.finetuning.tunable import takes_drop_path
    from sdssl_bench.probes.finetuning.tuning_scores import (
        SELECT,
        Job,
        make_job,
        score_tuned_layers,
    )
    from sdssl_bench.probes.linear.forecast import sgd_work
    from sdssl_bench.probes.linear.inputs import needed, parts_of
    from sdssl_bench.probes.linear.sgd_probe import SgdRecipe
    from sdssl_bench.probes.linear.sgd_scores import score_sgd_layers
    from sdssl_bench.probes.linear.sweep import SWEEPS
    from sdssl_bench.probes.logistic.forecast import logreg_work
    from sdssl_bench.probes.logistic.probe import score_logreg_layers
    from sdssl_bench.probes.multi_exit import ExitReport, exit_report, throughput
    from sdssl_bench.probes.scores import mean_of_tries
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
