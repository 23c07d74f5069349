"""Postfix's own configuration files, read and written as Postfix itself reads and writes them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core.errors import InvalidValue
from cluster_store.core.values import show
from cluster_store.formats import read_config, write_config

POSTCONF = shutil.which("postconf") or shutil.which("postconf", path="/usr/sbin:/usr/local/sbin")
TEMPLATES = ("/usr/share/postfix/main.cf.dist", "/etc/postfix/main.cf.proto", "/usr/share/postfix/main.cf.debian")

pytestmark = [
    pytest.mark.postfix,
    pytest.mark.skipif(POSTCONF is None, reason="postconf is not installed: Postfix's own reading cannot be compared"),
]


def postconf(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run postconf and return what it printed."""
    assert POSTCONF is not None
    return subprocess.run([POSTCONF, *arguments], capture_output=True, check=False, timeout=30)


def configure(folder: Path, main_cf: bytes) -> None:
    """Make a folder a Postfix configuration: this main.cf, and the services that came with Postfix.

    The services give rise to parameters of their own. Postfix waits while a file is younger than a second, so this one
    is made older.
    """
    default = postconf("-d", "-h", "config_directory").stdout.decode().strip()
    shutil.copy(Path(default) / "master.cf", folder)
    (folder / "main.cf").write_bytes(main_cf)
    os.utime(folder / "main.cf", (1_000_000_000, 1_000_000_000))


def set_in(folder: Path) -> dict[str, str]:
    """Return the parameters that Postfix finds set in a folder's main.cf, but for the one that names the folder."""
    done = postconf("-c", str(folder), "-n")
    assert done.returncode == 0, done.stderr
    settings = texts(done.stdout)
    del settings["config_directory"]
    return settings


def texts(cf: bytes) -> dict[str, str]:
    """Return the settings of a main.cf, or of what postconf prints, as plain text."""
    return {key: show(value) for key, value in read_config(cf, "main.cf").settings.items()}


def as_postconf_prints(value: str) -> str:
    """Return a value as postconf shows it: each run of blanks, but for two rare ones, as a single space."""
    return re.sub(r"[ \t\r\n]+", " ", value)


def test_all_of_postfix_own_parameters_are_read() -> None:
    """About a thousand lines, none lost, each value as it was printed; written again they are the same bytes."""
    printed = postconf("-d").stdout
    loaded = read_config(printed, "postconf.cf")
    lines = printed.decode().splitlines()
    assert len(lines) > 800
    assert loaded.warnings == []
    assert [f"{key} = {show(value)}".rstrip() for key, value in loaded.settings.items()] == [
        line.rstrip() for line in lines
    ]
    assert write_config(loaded.settings, "cf").splitlines() == sorted(line.rstrip() for line in lines)


def test_what_is_written_is_read_back_by_postfix_with_the_same_values(tmp_path: Path) -> None:
    """Every parameter, unexpanded, but for the few that Postfix lets nobody set."""
    settings = read_config(postconf("-d").stdout, "postconf.cf").settings
    configure(tmp_path, write_config(settings, "cf").encode())
    done = postconf("-c", str(tmp_path))
    read_only = set(re.findall(rb"read-only parameter assignment: (\w+)=", done.stderr))
    assert len(read_only) < 10
    assert b"unused parameter" not in done.stderr
    kept = {key: show(value) for key, value in settings.items() if key.encode() not in read_only}
    back = texts(done.stdout)
    assert {key: value for key, value in back.items() if key.encode() not in read_only} == kept
    assert set_in(tmp_path).keys() == kept.keys() - {"config_directory"}


@pytest.mark.parametrize("template", TEMPLATES)
def test_postfix_own_templates_are_read_as_postfix_reads_them(template: str, tmp_path: Path) -> None:
    """With hundreds of lines of comments, continuation lines and empty values."""
    if not Path(template).exists():
        pytest.skip(f"{template} does not come with this Postfix")
    data = Path(template).read_bytes()
    configure(tmp_path, data)
    read = {key: as_postconf_prints(value) for key, value in texts(data).items()}
    assert len(read) > 3
    assert read == set_in(tmp_path)


#: Parameters that take any text.
KNOWN = ("relayhost", "myorigin", "smtpd_banner")
_BLANKS = (" ", "\t", "\r", "\v", "\f", "\u00a0", "\u0085", "\u2028", "\x1c")
_LINES = ("\nrelayhost = x", "\nmyorigin=", "\nsmtpd_banner\t= y", "\n more", "\n# c", "\n  # c", "\n\n\tmore", "\n")
_fragments = st.lists(st.sampled_from([*_BLANKS, *_LINES, "#", "=", "a", "$b", "é"]), max_size=20).map("".join)


@given(_fragments)
def test_any_file_is_read_as_postfix_reads_it(tmp_path_factory: pytest.TempPathFactory, fragments: str) -> None:
    """Files put together at random from all that has a meaning there."""
    data = f"relayhost = 1{fragments}".encode()
    try:
        read = texts(data)
    except InvalidValue:
        # Where Postfix stops at the same, it first sleeps for a second; the next test has that.
        return
    folder = tmp_path_factory.mktemp("postfix")
    configure(folder, data)
    known = {key: as_postconf_prints(value) for key, value in read.items() if key in KNOWN}
    assert known == set_in(folder)


@pytest.mark.parametrize("line", ["smtpd_banner", "my origin = x"])
def test_postfix_stops_where_we_refuse(line: str, tmp_path: Path) -> None:
    """A line that is no setting ends its reading too."""
    data = f"relayhost = 1\n{line}\n".encode()
    configure(tmp_path, data)
    assert postconf("-c", str(tmp_path), "-n").returncode != 0
    with pytest.raises(InvalidValue, match="line 2"):
        texts(data)


def test_the_last_of_two_assignments_counts_for_postfix_too(tmp_path: Path) -> None:
    """Both warn."""
    data = b"relayhost = 1\nmyorigin = x\nrelayhost = 2\n"
    configure(tmp_path, data)
    assert set_in(tmp_path) == texts(data) == {"relayhost": "2", "myorigin": "x"}
    assert b"overriding earlier entry" in postconf("-c", str(tmp_path), "-n").stderr
    assert len(read_config(data, "main.cf").warnings) == 1
