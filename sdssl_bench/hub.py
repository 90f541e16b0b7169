"""Whether the weights of a `timm:` name can be had, asked before the libraries that would fetch them.

huggingface_hub tries a hub that cannot be reached six times per file, half a minute each; one attempt of at
most PATIENCE seconds decides here. Only the standard library is imported: the command line asks first.
"""

import os
import socket
import ssl
from pathlib import Path
from threading import Event, Thread
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener, getproxies, proxy_bypass

from sdssl_bench.errors import DataError

PATIENCE = 2.5
"""Seconds in which a name must resolve and a connection be made."""


def endpoint() -> str:
    """Address of the hub, or of the mirror that $HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def check_before_imports(ckpt: str) -> None:
    """Refuses a `timm:` name where nothing is cached and the hub cannot be reached.

    Where anything is cached, `checkpoints` finds out whether it is this model.

    Raises:
        DataError: with what to do instead.
    """
    scheme, _, name = ckpt.strip().partition(":")
    if scheme.lower() == "timm" and "pretrained=" not in name and not _anything_cached():
        check_reachable(name.partition("?")[0], endpoint())


def check_reachable(name: str, url: str) -> None:
    """Proves that the host of timm's weights, or the proxy before it, takes connections.

    Args:
        name: timm's, for the message.
        url: where its weights are.

    Raises:
        DataError: with what to do instead.
    """
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true")
    reason = "HF_HUB_OFFLINE is set" if offline else why_unreachable(url)
    if reason is not None:
        raise DataError(
            f"The weights of timm:{name} are in no local cache and {urlsplit(url).hostname} cannot be "
            f"reached ({reason}): connect to the network, or set HF_HOME to a cache that has them, or "
            f"download their file elsewhere and use --ckpt FILE --arch {name.partition('.')[0]}."
        )


def why_unreachable(url: str) -> str | None:
    """Why no connection to a server comes about within PATIENCE; None if it does.

    A slow answer is an answer: only names, connections and the refusals of a proxy count.
    """
    connected, reasons = Event(), list[str]()
    done = Thread(target=lambda: reasons.extend(_attempt(url, connected)), daemon=True)
    done.start()  # in a thread, since looking up a name knows no timeout
    done.join(PATIENCE)
    if reasons:
        return reasons[0]
    return None if connected.is_set() else f"no answer within {PATIENCE:g} s"


def _attempt(url: str, connected: Event) -> list[str]:
    asked = urlsplit(url)
    proxies = {} if proxy_bypass(asked.hostname or "") else getproxies()
    proxy = proxies.get(asked.scheme) or proxies.get("all")
    met = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else asked
    port = met.port or {"https": 443, "http": 80}.get(met.scheme, 1080)
    try:
        socket.create_connection((met.hostname or "", port), timeout=PATIENCE).close()
        connected.set()
        if proxy and met.scheme == "http":  # it may refuse this server
            build_opener().open(Request(url, method="HEAD"), timeout=60).close()
    except HTTPError:
        pass
    except OSError as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError | TimeoutError) or not connected.is_set():
            return [str(getattr(reason, "strerror", None) or reason)]
    return []


def _anything_cached() -> bool:
    """Whether a cache of huggingface_hub or torch.hub holds any model."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    hubs = [f"{home}/hub", *map(os.environ.get, ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"))]
    torch_home = os.environ.get("TORCH_HOME") or f"{caches}/torch"
    wanted = [(f"{torch_home}/hub/checkpoints", "*"), *((hub, "models--*") for hub in hubs if hub)]
    return any(any(Path(folder).expanduser().glob(names)) for folder, names in wanted)
