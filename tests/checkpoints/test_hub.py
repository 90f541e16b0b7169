"""No network: one sentence at once, whoever is silent; a network that works is not refused."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
import timm
import torch
from safetensors.torch import save_file

from sdssl_bench import checkpoints
from sdssl_bench.checkpoints import hub
from sdssl_bench.errors import DataError

ELSEWHERE = "http://hub.invalid"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def address(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def answer(server: socket.socket, reply: bytes) -> None:
    """Replies to every connection, without looking at what it says."""

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                if peer.recv(4096):
                    peer.sendall(reply)

    Thread(target=serve, daemon=True).start()


def refuse_early(name: str, caches: Path, **environment: str) -> tuple[str, float]:
    """What the command line says of a name, and after how many seconds."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "sdssl_bench", "doctor", "--ckpt", name],
        env={"XDG_CACHE_HOME": str(caches), **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3
    return done.stderr, time.monotonic() - start


def test_a_refused_connection_is_told_before_anything_heavy_is_imported(
    server: socket.socket, tmp_path: Path
) -> None:
    url = address(server)
    server.close()
    said, seconds = refuse_early("timm:resnet18.a1_in1k", tmp_path, HF_ENDPOINT=url)
    assert "Connection refused" in said
    assert "--ckpt FILE --arch resnet18" in said
    assert said.count("\n") == 1
    assert seconds < 3


@pytest.mark.parametrize(
    "silent", ["getaddrinfo", pytest.param("create_connection", marks=pytest.mark.slow)]
)
def test_silence_is_waited_for_less_than_three_seconds(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = Event()

    def wait(*_arguments: object, **_keywords: object) -> None:
        over.wait(20)
        raise OSError("nobody listens any more")

    monkeypatch.setattr(socket, silent, wait)
    start = time.monotonic()
    found = hub.why_unreachable("https://hub.invalid")
    seconds = time.monotonic() - start
    over.set()
    assert found == "no answer within 2.5 s"
    assert seconds < 3


def test_a_server_that_connects_is_reachable_however_late_it_answers(server: socket.socket) -> None:
    assert hub.why_unreachable(address(server)) is None


@pytest.mark.parametrize(
    ("url", "reply", "reason"),
    [
        (ELSEWHERE, b"HTTP/1.1 200 OK\r\n\r\n", None),
        (ELSEWHERE, b"HTTP/1.1 404 Not Found\r\n\r\n", None),
        ("https://hub.invalid", b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        ("https://hub.invalid", b"HTTP/1.1 200 OK\r\n\r\nno TLS", None),
    ],
)
def test_a_proxy_is_asked_instead_of_the_server(
    server: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    reply: bytes,
    reason: str | None,
) -> None:
    answer(server, reply)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, address(server))
    found = hub.why_unreachable(url)
    assert found is None if reason is None else reason in str(found)
    monkeypatch.setenv("no_proxy", "hub.invalid")
    assert hub.why_unreachable(url) is not None, "the name does not exist"


def test_a_cache_and_untrained_weights_need_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        hub.check_before_imports("timm:resnet18")
    for ckpt in ("timm:resnet18?pretrained=false", "timm.pth", "custom:timm.py:build"):
        hub.check_before_imports(ckpt)
    (tmp_path / "hf" / "hub" / "models--timm--resnet50.a1_in1k").mkdir(parents=True)
    hub.check_before_imports("timm:resnet18")
    with pytest.raises(DataError, match="resnet18 are in no local cache"):
        checkpoints.load("timm:resnet18")


def test_the_remedy_works(tmp_path: Path) -> None:
    model = timm.create_model("resnet18")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = checkpoints.load(str(tmp_path / "model.safetensors"), arch="resnet18")
    model.reset_classifier(0)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(encoder(images), model.eval()(images), atol=1e-5)
