"""What is stored of a measurement, and why two of them differ.

In: scores of layers with everything that identifies them. Out: one JSON file per model, task, dataset and
protocol, with per-item scores beside it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.records.explanation import (
        Setting as Setting,
    )
    from sdssl_bench.records.explanation import (
        as_json as as_json,
    )
    from sdssl_bench.records.explanation import (
        differences as differences,
    )
    from sdssl_bench.records.explanation import (
        lines as lines,
    )
    from sdssl_bench.records.explanation import (
        obstacles as obstacles,
    )
    from sdssl_bench.records.provenance import (
        environment as environment,
    )
    from sdssl_bench.records.store import (
        SCHEMA_VERSION as SCHEMA_VERSION,
    )
    from sdssl_bench.records.store import (
        Record as Record,
    )
    from sdssl_bench.records.store import (
        ResultStore as ResultStore,
    )
    from sdssl_bench.records.store import (
        Stored as Stored,
    )
    from sdssl_bench.records.store import (
        best_layer as best_layer,
    )
    from sdssl_bench.records.store import (
        canonical_json as canonical_json,
    )
    from sdssl_bench.records.store import (
        digest as digest,
    )
    from sdssl_bench.records.store import (
        items_path as items_path,
    )
    from sdssl_bench.records.store import (
        model_identity as model_identity,
    )
    from sdssl_bench.records.store import (
        read_all as read_all,
    )
    from sdssl_bench.records.store import (
        read_items as read_items,
    )
    from sdssl_bench.records.store import (
        read_record as read_record,
    )
    from sdssl_bench.records.store import (
        record_key as record_key,
    )
    from sdssl_bench.records.store import (
        select as select,
    )
    from sdssl_bench.records.store import (
        slug as slug,
    )
    from sdssl_bench.records.store import (
        write_atomic as write_atomic,
    )
    from sdssl_bench.records.titles import (
        record_title as record_title,
    )
    from sdssl_bench.records.titles import (
        variant_mark as variant_mark,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
