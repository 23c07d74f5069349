"""The three private keys of a machine, each in a file of its own in ``<store>/keys/``.

    identity.pem               seals records, and is what the machine's id is made of; SSH never uses it
    ssh_host_ed25519_key       proves to whoever connects that this is the machine they dialled
    ssh_client_ed25519_key     proves to the machine that is dialled who is calling

They are separate so that what talks to the network can be replaced without the machine becoming another one, and so
that no signature made in an SSH handshake can ever be mistaken for a seal. All three are ed25519. The SSH keys are in
OpenSSH's own format, so that ``ssh-keygen -lf FILE`` shows an operator what peers see.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from cluster_store.core.errors import InvalidValue, Refused, StoreCorrupt, StoreError, StoreFull, StoreMissing

IDENTITY_FILE = "identity.pem"
HOST_FILE = "ssh_host_ed25519_key"
CLIENT_FILE = "ssh_client_ed25519_key"

#: An ed25519 key takes less than 500 bytes in any format; what is longer is another file, and is not read whole.
_KEY_FILE_BYTES_MAX = 16 * 1024


class Keys:
    """The private keys of one machine, loaded once and kept in memory."""

    def __init__(self, identity: Ed25519PrivateKey, host: Ed25519PrivateKey, client: Ed25519PrivateKey) -> None:
        self._identity = identity
        self._host = host
        self._client = client
        # Seals are made with every commit, by a library that takes half the time and reads no key files.
        self._public, self._signing = crypto_sign_seed_keypair(identity.private_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """Return three new keys that are written nowhere: for a machine that lives in memory."""
        return cls(Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make three new keys and write them to ``folder``, which is made if it is not there.

        Raises:
            Refused: there is a key already; an identity is never overwritten, because nothing brings it back.
            StoreFull: the disk has no room.
            StoreError: the folder cannot be written.
        """
        keys = cls.generate()
        try:
            for name in (IDENTITY_FILE, HOST_FILE, CLIENT_FILE):
                if os.path.lexists(folder / name):
                    raise Refused(
                        f"there is a key already: {folder / name}",
                        "Use the store as it is, or choose another folder; a key is never overwritten.",
                    )
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            keys._write(folder)  # noqa: SLF001 - its own class
            _sync_folder(folder.parent)
        except OSError as error:
            kind = StoreFull if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO} else StoreError
            raise kind(
                f"cannot write the keys to {folder}: {error.strerror or error}",
                "See that the folder is on a writable disk with room, and is this user's own.",
            ) from error
        return keys

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the keys that ``create`` wrote.

        Raises:
            StoreMissing: the folder or one of the keys is not there.
            StoreCorrupt: a key cannot be read, is not what it should be, or is open to other users.
        """
        _refuse_open(folder, _stat(folder), "700")
        identity = _read(folder / IDENTITY_FILE, serialization.load_pem_private_key)
        host = _read(folder / HOST_FILE, serialization.load_ssh_private_key)
        client = _read(folder / CLIENT_FILE, serialization.load_ssh_private_key)
        if len({_raw_public(key) for key in (identity, host, client)}) < 3:  # noqa: PLR2004 - one each
            raise StoreCorrupt(
                f"two of the keys in {folder} are the same key",
                "Take the keys from a backup of this machine; each has a purpose of its own.",
            )
        return cls(identity, host, client)

    def _write(self, folder: Path) -> None:
        _write(folder / IDENTITY_FILE, _private_bytes(self._identity, PrivateFormat.PKCS8))
        _write(folder / HOST_FILE, self.host_private)
        _write(folder / CLIENT_FILE, self.client_private)

    @property
    def identity_public(self) -> bytes:
        """The raw 32 bytes of the public identity key, which other machines know this one by."""
        return self._public

    def sign(self, data: bytes) -> bytes:
        """Return the identity key's ed25519 signature of ``data``, 64 bytes."""
        return crypto_sign(data, self._signing)[:crypto_sign_BYTES]

    @property
    def host_key_line(self) -> str:
        """The public host key as OpenSSH writes it, ``ssh-ed25519 AAAA…``, without a comment."""
        return _line(self._host)

    @property
    def client_key_line(self) -> str:
        """The public client key as OpenSSH writes it, ``ssh-ed25519 AAAA…``, without a comment."""
        return _line(self._client)

    @property
    def host_private(self) -> bytes:
        """The private host key in OpenSSH's format, not encrypted."""
        return _private_bytes(self._host, PrivateFormat.OpenSSH)

    @property
    def client_private(self) -> bytes:
        """The private client key in OpenSSH's format, not encrypted."""
        return _private_bytes(self._client, PrivateFormat.OpenSSH)

    @staticmethod
    def fingerprint(line: str) -> str:
        """Return the fingerprint of an OpenSSH public key line, ``SHA256:…``, as ``ssh-keygen -l`` prints it.

        Raises:
            InvalidValue: the line is not an OpenSSH public key.
        """
        fields = line.split(maxsplit=2)
        try:
            name, blob = fields[0].encode("ascii"), base64.b64decode(fields[1], validate=True)
        except (IndexError, ValueError, binascii.Error):
            name, blob = b"", b""
        # The name stands in front of the line and, after its length, in front of what is encoded.
        if not name or not blob.startswith(len(name).to_bytes(4) + name):
            raise InvalidValue(
                f"not an OpenSSH public key: {line[:80]!r}", "It should look like `ssh-ed25519 AAAA…`, on one line."
            )
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def _private_bytes(key: Ed25519PrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def _raw_public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _line(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def _write(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there, whenever the power fails."""
    fresh = path.with_name(path.name + ".new")
    # What a crash left behind may have been opened with other permissions, so it is not reused.
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - pathlib opens no descriptors
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure, as ``fsync`` does for the bytes of a file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, decode: Callable[[bytes, None], object]) -> Ed25519PrivateKey:
    _refuse_open(path, _stat(path), "600")
    try:
        with path.open("rb") as file:
            content = file.read(_KEY_FILE_BYTES_MAX)
        key = decode(content, None)
    except OSError as error:
        raise StoreCorrupt(
            f"cannot read the key {path}: {error.strerror}", "Run this as the user that the store belongs to."
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # TypeError: the key is protected by a passphrase, which nobody could type when a daemon starts.
        raise StoreCorrupt(
            f"the key {path} is damaged: {error}", "Take it from a backup of this machine; it cannot be made again."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreCorrupt(
            f"the key {path} is not an ed25519 key", "Take it from a backup of this machine; no other kind is used."
        )
    return key


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise StoreMissing(
            f"there is no {path}",
            "Restore a backup of this machine; `cluster-store repair` says what else can be done.",
        ) from error
    except OSError as error:
        raise StoreCorrupt(
            f"cannot read {path}: {error.strerror}", "Run this as the user that the store belongs to."
        ) from error


def _refuse_open(path: Path, status: os.stat_result, mode: str) -> None:
    """Refuse what other users can read or write: a private key that others may have read proves nothing any more."""
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreCorrupt(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})",
            f"If nobody else can have read it, run `chmod {mode} {path}`.",
        )
