"""The installed programs for a shell, without the price of starting Python with all of the product: see ``forks``.

A folder for the shell's ``PATH`` holds stand-ins of the same names. Each hands its words, streams, folder and
environment through a socket to the tests' process, which has the program forked with them, passes signals on, and ends
as it ends.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path

from tests.end_to_end.forks import How, forks

#: The programs that pyproject.toml installs, and the words that each stands for.
PROGRAMS: dict[str, tuple[str, ...]] = {"cluster-store": (), "clusterconfig": ("clusterconfig",)}
_REQUEST_BYTES = 192 * 1024
#: Started without site-packages and without imports that it can do without: this takes 20 ms, the product 300.
_STAND_IN = """#!{python} -IS
import json, os, signal, socket, sys
door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
door.connect({door!r})
request = {{"words": [*{words!r}, *sys.argv[1:]], "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(door, [json.dumps(request).encode()], [0, 1, 2])
process = int(door.recv(100))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda given, _: os.kill(process, given))
status = int(door.recv(100) or -9)
sys.exit(status if status >= 0 else 128 - status)
"""


class ForkedPrograms:
    """A folder with stand-ins for the programs, for as long as this is open."""

    def __init__(self, folder: Path) -> None:
        """Fill a folder that does not exist yet."""
        folder.mkdir()
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A socket's path may have about a hundred characters, a test's folder has more.
        address = os.path.relpath(folder / "door")
        self._door.bind(address)
        self._door.listen()
        for name, words in PROGRAMS.items():
            program = folder / name
            text = _STAND_IN.format(python=sys.executable, words=words, door=str(folder / "door"))
            program.write_text(text, encoding="utf-8")
            program.chmod(0o755)
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            try:
                caller, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=_run, args=[caller], daemon=True).start()

    def close(self) -> None:
        """Start no more programs."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join()


def _run(caller: socket.socket) -> None:
    with caller:
        data, handles, _, _ = socket.recv_fds(caller, _REQUEST_BYTES, 3)
        if not data:
            return
        request = json.loads(data)
        files = [os.fdopen(handle, "wb", buffering=0) for handle in handles]
        how = How(folder=request["folder"], environment=request["environment"])
        forked = forks().start(request["words"], how, files[1], files[2], files[0])
        for file in files:
            file.close()
        caller.send(b"%d" % forked.pid)
        caller.send(b"%d" % forked.wait())
