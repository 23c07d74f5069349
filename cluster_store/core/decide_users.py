"""Decisions about people: who may log in, how, and as what.

A user is one register, so that a merge never mixes two people. Its id comes from the name that it was added with, so
the same name added on both sides of a cut is one user. Passwords arrive here as argon2id hashes only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from cluster_store.core import commands, public_keys
from cluster_store.core.cluster import ADMIN, ROLES, User, id_of_name
from cluster_store.core.decision import Context, Decision, to_text, write_secret
from cluster_store.core.errors import InvalidValue, NotFound, OverLimit, Refused
from cluster_store.core.events import Event
from cluster_store.core.limits import KEYS_PER_USER_MAX
from cluster_store.core.public_keys import PublicKey
from cluster_store.core.types import Path
from cluster_store.core.values import check_name

#: Machines log in with it, see ``ports.MACHINE_USER``; no person can have it.
_OF_MACHINES = "machine"
_HASH = "$argon2id$"


def user_path(user: str) -> Path:
    """Return the register of a user, by id."""
    return Path(f"user/{user}")


def add_user(command: commands.AddUser, context: Context) -> Decision:
    """Decide who may log in from now on."""
    name = _check_name(command.name, context, of=None)
    keys = _added([], command.keys)
    used = [path.partition("/")[2] for path, _ in context.registers.under("user/")]
    user = User(
        id=id_of_name(name, used),
        name=name,
        role=_check_role(command.role),
        password=_check_hash(command.password),
        keys=tuple(key.line for key in keys),
        both=command.both,
    )
    if not user.password and not keys:
        raise Refused(f"{name} could not log in", "give a password, a public key with --key, or both")
    _check_both(user)
    params: dict[str, Any] = {"name": name, "role": user.role}
    if keys:
        params["keys"] = [key.fingerprint for key in keys]
    return _written("UserAdded", user, params, command.salt, context)


def change_user(command: commands.ChangeUser, context: Context) -> Decision:
    """Decide what is different about a user from now on."""
    before = context.cluster.user(command.user)
    name = before.name if command.rename is None else _check_name(command.rename, context, of=before)
    role = before.role if command.role is None else _check_role(command.role)
    if before.id == ADMIN and (name, role) != (before.name, before.role):
        raise Refused("admin keeps its name and its role", "add another user, with 'userconfig new'")
    known = public_keys.of_lines(before.keys)
    keys = _added(_left(known, command.remove_keys, before), command.add_keys)
    after = User(
        id=before.id,
        name=name,
        role=role,
        password=before.password if command.password is None else _check_hash(command.password),
        keys=tuple(key.line for key in keys),
        both=before.both if command.both is None else command.both,
    )
    _check_both(after)
    changed = [
        what for what in ("name", "role", "password", "keys", "both") if getattr(before, what) != getattr(after, what)
    ]
    # Where concurrent changes stand beside each other, writing it down once more settles them.
    if not changed and len(context.registers.standing(user_path(before.id))) == 1:
        return Decision(None)
    params: dict[str, Any] = {"name": before.name, "changed": changed}
    params |= {"to": after.name} if "name" in changed else {}
    params |= {"role": after.role} if "role" in changed else {}
    params |= {"keys": [key.fingerprint for key in keys]} if "keys" in changed else {}
    return _written("UserChanged", after, params, command.salt, context)


def change_password(command: commands.ChangePassword, context: Context) -> Decision:
    """Decide that a user has another password."""
    if not command.password:
        raise Refused("an empty password is no password", "give one of some length")
    change = commands.ChangeUser(user=command.user, password=command.password, salt=command.salt)
    return change_user(change, context)


def delete_user(command: commands.DeleteUser, context: Context) -> Decision:
    """Decide that somebody may not log in any more. Nothing of how they did is kept."""
    user = context.cluster.user(command.user)
    if user.id == ADMIN:
        raise Refused("admin cannot be deleted", "give it another password, with 'passwd admin'")
    gone = User(id=user.id, name=user.name, role=user.role, deleted=True)
    return _written("UserDeleted", gone, {"name": user.name}, command.salt, context)


def _written(kind: str, user: User, params: dict[str, Any], salt: bytes, context: Context) -> Decision:
    value: dict[str, Any] = {"name": user.name, "role": user.role, "password": user.password, "keys": list(user.keys)}
    value |= {"both": True} if user.both else {}
    value |= {"deleted": True} if user.deleted else {}
    write, secrets = write_secret(user_path(user.id), to_text(value), salt, context)
    return Decision(Event(kind, (write,), params, secrets))


def _check_name(name: str, context: Context, of: User | None) -> str:
    """Return a name that somebody can log in with, and that nobody else has.

    Raises:
        InvalidValue: SSH or a shell would change it, or take it for something else.
        Refused: it is taken.
    """
    check_name(name, "user name")
    if unicodedata.normalize("NFKC", name) != name:
        raise InvalidValue(f"the user name {name!a} would not arrive as it is over SSH", "use plain letters")
    if "@" in name or any(sign.isspace() for sign in name):
        raise InvalidValue(f"the user name '{name}' holds a blank or an @, which logins cannot", "leave it out")
    if name.casefold() == _OF_MACHINES:
        raise Refused(f"'{name}' is what machines log in as", "choose another name")
    for other in context.cluster.users.values():
        if other.name.casefold() == name.casefold() and (of is None or other.id != of.id):
            raise Refused(f"there is already a user named '{other.name}'", "choose another name")
    return name


def _check_role(role: str) -> str:
    if role not in ROLES:
        raise InvalidValue(f"'{role}' is no role", f"a role is one of {', '.join(ROLES)}")
    return role


def _check_hash(password: str) -> str:
    # Whatever the caller's fault: nothing but a hash may become part of a log that is never erased.
    if password and not password.startswith(_HASH):
        raise InvalidValue(
            "the password did not arrive as an argon2id hash", "is this program of the daemon's version?"
        )
    return password


def _check_both(user: User) -> None:
    if user.both and not (user.password and user.keys):
        missing = "password" if user.keys else "public key"
        raise Refused(
            f"{user.name} is to log in with key and password, and has no {missing}",
            "give it in the same command, or --no-require-both",
        )


def _added(keys: list[PublicKey], lines: Sequence[str]) -> list[PublicKey]:
    """Return keys with those of more lines, each once; of one key the newer line counts."""
    for line in lines:
        key = public_keys.parse(line)
        keys = [*(other for other in keys if not other.same(key)), key]
    if len(keys) > KEYS_PER_USER_MAX:
        raise OverLimit(f"a user has at most {KEYS_PER_USER_MAX} keys", "remove one, with --remove-key")
    return keys


def _left(keys: list[PublicKey], fingerprints: Sequence[str], user: User) -> list[PublicKey]:
    """Return keys without those of these fingerprints. Raises NotFound."""
    for fingerprint in fingerprints:
        if all(key.fingerprint != fingerprint for key in keys):
            known = ", ".join(key.fingerprint for key in keys) or "none"
            raise NotFound(f"{user.name} has no key {fingerprint}", f"known: {known}")
    return [key for key in keys if key.fingerprint not in fingerprints]
