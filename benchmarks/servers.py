"""Servers of others, started for a while: on loopback, on free ports, in a folder that is thrown away."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from time import monotonic, sleep

from benchmarks.harness import WrongAnswer
from benchmarks.stores import free_port

_HOST = "127.0.0.1"
#: How long a server may take to start or to end on a busy host, seconds.
_PATIENCE_S = 60.0
#: Debian keeps servers where an ordinary user's PATH does not look.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class ServerFailed(WrongAnswer):
    """A server did not start."""


def find(program: str) -> str | None:
    """Return where a server's program is, None where it is not installed."""
    return shutil.which(program, path=_PATH)


@cache
def versions() -> dict[str, str]:
    """Return which servers are here: program -> version."""
    return {program: said for program in ("etcd", "nats-server") if (said := _version(program))}


def _version(program: str) -> str:
    if (path := find(program)) is None:
        return ""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].split(":")[-1].strip().removeprefix("v") if done.stdout else ""


def etcd_missing() -> str:
    """Return why there is no etcd here, ``""`` where there is."""
    return "" if find("etcd") else "etcd: not installed (Debian: etcd-server)"


@contextlib.contextmanager
def etcd(folder: Path) -> Iterator[str]:
    """Run an etcd of one member with its defaults, under which a put is synced before it is answered.

    Yields its address.
    """
    client, peer = (f"{_HOST}:{free_port(_HOST)}" for _ in range(2))
    words = [
        *("--data-dir", str(folder / "etcd"), "--log-level", "error"),
        *("--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}"),
        *("--listen-peer-urls", f"http://{peer}", "--initial-advertise-peer-urls", f"http://{peer}"),
        *("--initial-cluster", f"default=http://{peer}"),
    ]
    with _running("etcd", words, folder, lambda: _is_healthy(client)):
        yield client


def _is_healthy(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/health")
        return b'"true"' in connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()


def nats_missing(folder: Path) -> str:
    """Return why there is no NATS here that waits for the disk, ``""`` where there is."""
    program = find("nats-server")
    if program is None:
        return "NATS JetStream: not installed (Debian: nats-server)"
    settings = _nats_settings(folder, free_port(_HOST))
    done = subprocess.run([program, "-t", "-c", str(settings)], capture_output=True, check=False)
    settings.unlink()
    if done.returncode:
        said = f"nats-server {_version('nats-server')} has no sync_interval (2.10 has)"
        return f"NATS JetStream: {said}: it would answer before the disk has it"
    return ""


@contextlib.contextmanager
def nats(folder: Path) -> Iterator[str]:
    """Run a NATS server whose JetStream syncs every message before it acknowledges it. Yields its address."""
    port = free_port(_HOST)
    with _running("nats-server", ["-c", str(_nats_settings(folder, port))], folder, lambda: _listens(port)):
        yield f"nats://{_HOST}:{port}"


def _nats_settings(folder: Path, port: int) -> Path:
    path = folder / "nats.conf"
    streams = f'store_dir: "{folder}/nats", sync_interval: always'
    path.write_text(f'listen: "{_HOST}:{port}"\njetstream {{ {streams} }}\n', encoding="utf-8")
    return path


def _listens(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=1)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


@contextlib.contextmanager
def _running(program: str, words: Sequence[str], folder: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """Run a server until the end of the block. Raises ServerFailed."""
    path = find(program)
    assert path is not None, "whoever starts a server has looked for it"
    errors = folder / f"{program}.log"
    with errors.open("wb") as output:
        process = subprocess.Popen([path, *words], stdout=output, stderr=output)
    try:
        deadline = monotonic() + _PATIENCE_S
        while not ready():
            if process.poll() is not None or monotonic() > deadline:
                raise ServerFailed(f"{program} did not start: {errors.read_text(encoding='utf-8')[-500:]}")
            sleep(0.02)
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and end it where it does not in time."""
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
