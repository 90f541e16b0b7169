"""Processes, devices, progress, threads, files and paths; no science.

In: the machine and the launcher. Out: what the rooms above need to know of them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.system import distributed, launching, lifetime, progress, resizing, streams
    from sdssl_bench.system.arrays import read_arrays
    from sdssl_bench.system.distributed import (
        agreed,
        broadcast,
        cuda_devices,
        gather_objects,
        is_main_process,
        join,
        lost_process,
        num_processes,
        process_index,
        resolve_device,
        wait_for_everyone,
    )
    from sdssl_bench.system.files import (
        check_folder,
        refused,
        replacing,
        unwritable,
        write_atomic,
        writing,
    )
    from sdssl_bench.system.jobs import Job, run_jobs, shares
    from sdssl_bench.system.launching import is_first
    from sdssl_bench.system.lifetime import end_with_parent
    from sdssl_bench.system.locking import locked
    from sdssl_bench.system.memory import held_bytes
    from sdssl_bench.system.paths import default_cache, default_data_root, default_results
    from sdssl_bench.system.pickles.machine import OPCODE_BYTES, PickleError, StandIn, allowance
    from sdssl_bench.system.pickles.reading import Unpickled, unpickle
    from sdssl_bench.system.plugin_points import (
        include,
        included,
        included_files,
        load_plugin,
        package_of,
        place_of,
        plugins,
    )
    from sdssl_bench.system.progress import Progress, duration
    from sdssl_bench.system.resizing import missing_opencv, opencv_version, resize
    from sdssl_bench.system.streams import is_heard
    from sdssl_bench.system.terminal import Column, FittedTable, curve_of, shortened, show
    from sdssl_bench.system.threads import ThreadTeam, ahead, available_cpus
    from sdssl_bench.system.work import Work
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
