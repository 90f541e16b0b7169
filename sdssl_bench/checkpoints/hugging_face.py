"""`hf:ORG/NAME[@revision]`: a repository of the Hugging Face hub, from its cache or over the network.

Only weights and the JSON files beside them are fetched, safetensors before pickles; no code of a repository
is fetched or run.
"""

import re
from pathlib import Path

from sdssl_bench.checkpoints.hub import endpoint, why_unreachable
from sdssl_bench.errors import DataError, UsageError

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SETTINGS = ["config.json", "preprocessor_config.json", "open_clip_config.json"]
_WEIGHTS = (
    ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"],
    ["open_clip_model.safetensors"],
    ["pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"],
)
"""Kinds of weights, the wanted first."""


def fetch(target: str) -> tuple[Path, str, str]:
    """The folder of a repository's weights, its name and the commit that it is.

    Without a network, or with $HF_HUB_OFFLINE, what the cache holds is taken.

    Args:
        target: "ORG/NAME" or "ORG/NAME@REVISION"; a revision is a branch, tag or commit.

    Raises:
        UsageError: if the text has another form.
        DataError: if it is in no cache and cannot be fetched, or holds no weights.
    """
    name, _, revision = target.partition("@")
    if not _NAME.fullmatch(name):
        raise UsageError(f"hf: takes ORG/NAME[@revision], found '{target}'.")
    from huggingface_hub import constants

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else why_unreachable(endpoint())
    wanted = revision or None
    folder = _cached(name, wanted, reason) if reason else _download(name, wanted)
    return folder, name, folder.name


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        commit = HfApi().model_info(name, revision=revision)
        files = [one.rfilename for one in commit.siblings or ()]
        wanted = next((kind for kind in _WEIGHTS if kind[0] in files or kind[-1] in files), None)
        if wanted is None:
            raise DataError(
                f"hf:{name} holds no weights under a known name; expected one of "
                f"{', '.join(kind[0] for kind in _WEIGHTS)}, found {', '.join(files[:10])}."
            )
        return Path(
            snapshot_download(name, revision=commit.sha, allow_patterns=[*_SETTINGS, *wanted])
        )
    except GatedRepoError as error:
        raise DataError(
            f"hf:{name} is gated: accept its licence on the hub, then `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"hf:{name} does not exist on the hub, or is private (then `hf auth login`)."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"hf:{name} could not be fetched ({first[0][:200]}); try again.") from error


def _cached(name: str, revision: str | None, reason: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        at = f" at {revision}" if revision else ""
        raise DataError(
            f"hf:{name}{at} is not in the local cache and the hub cannot be reached ({reason}): connect to "
            "the network, or set HF_HOME to a cache that has it, or give a folder with its files."
        ) from error
