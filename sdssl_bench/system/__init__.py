"""Processes, devices, progress, threads and paths; no science.

In: the machine and the launcher. Out: what the rooms above need to know of them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.system import distributed as distributed
    from sdssl_bench.system import launching as launching
    from sdssl_bench.system.distributed import (
        broadcast as broadcast,
    )
    from sdssl_bench.system.distributed import (
        gather_objects as gather_objects,
    )
    from sdssl_bench.system.distributed import (
        is_main_process as is_main_process,
    )
    from sdssl_bench.system.distributed import (
        join as join,
    )
    from sdssl_bench.system.distributed import (
        num_processes as num_processes,
    )
    from sdssl_bench.system.distributed import (
        process_index as process_index,
    )
    from sdssl_bench.system.distributed import (
        resolve_device as resolve_device,
    )
    from sdssl_bench.system.distributed import (
        wait_for_everyone as wait_for_everyone,
    )
    from sdssl_bench.system.paths import (
        default_cache as default_cache,
    )
    from sdssl_bench.system.paths import (
        default_data_root as default_data_root,
    )
    from sdssl_bench.system.progress import (
        Progress as Progress,
    )
    from sdssl_bench.system.resizing import (
        missing_opencv as missing_opencv,
    )
    from sdssl_bench.system.resizing import (
        opencv_version as opencv_version,
    )
    from sdssl_bench.system.resizing import (
        resize as resize,
    )
    from sdssl_bench.system.terminal import (
        Column as Column,
    )
    from sdssl_bench.system.terminal import (
        FittedTable as FittedTable,
    )
    from sdssl_bench.system.terminal import (
        curve_of as curve_of,
    )
    from sdssl_bench.system.terminal import (
        shortened as shortened,
    )
    from sdssl_bench.system.terminal import (
        show as show,
    )
    from sdssl_bench.system.threads import (
        Crew as Crew,
    )
    from sdssl_bench.system.threads import (
        ahead as ahead,
    )
    from sdssl_bench.system.threads import (
        available_cpus as available_cpus,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
