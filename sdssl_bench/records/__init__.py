"""What is stored of a measurement, and why two of them differ.

In: scores of layers with everything that identifies them. Out: one JSON file per model, task, dataset and
protocol, with per-item scores beside it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.records.explanation import Setting, as_json, differences, lines, obstacles
    from sdssl_bench.records.identity import (
        Record,
        canonical_json,
        content_digest,
        digest,
        model_identity,
        record_key,
    )
    from sdssl_bench.records.provenance import environment
    from sdssl_bench.records.reading import (
        SCHEMA_VERSION,
        items_path,
        json_of,
        parse_record,
        read_bytes,
        read_items,
    )
    from sdssl_bench.records.store import (
        ResultStore,
        Stored,
        best_layer,
        check_unique,
        record_files,
        shown_layer,
        slug,
    )
    from sdssl_bench.records.titles import (
        by_numbers,
        limit_mark,
        part_mark,
        plain,
        record_title,
        variant_mark,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
