"""Weights that are not whole as they are: parameters flattened and cut by FSDP, and adapters beside them."""

import re

from sdssl_bench.checkpoints.files import CheckpointFile
from sdssl_bench.checkpoints.folders import MERGE
from sdssl_bench.checkpoints.keys import flat
from sdssl_bench.errors import DataError

_FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")
_LOW_RANK = re.compile(r"(^|[._])lora_(a|b|down|up|embedding_a|embedding_b)(\.|$)", re.IGNORECASE)


def check_whole(file: CheckpointFile) -> None:
    """Refuses tensors that are no weights of a network until somebody puts them together.

    Raises:
        DataError: with the way to do that.
    """
    names = flat(file.content)
    cut = [name for name in names if _FLAT.search(name)]
    if cut:
        raise DataError(
            f"{file.path} holds {len(cut)} flat parameters of FSDP ('{cut[0]}'), of which each process "
            "has a piece: nobody can tell the weights apart in them. Gather them where they were trained, "
            "in all processes: `with FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT): state = "
            "model.state_dict()`, then torch.save(state, ...) in the first."
        )
    low = [name for name in names if _LOW_RANK.search(name)]
    if low:
        raise DataError(
            f"{file.path} holds {len(low)} tensors of a low-rank adapter ('{low[0]}') that is not merged "
            f"into the weights. {MERGE}"
        )
