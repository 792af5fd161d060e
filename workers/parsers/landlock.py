"""Landlock: the kernel's rules for files, TCP and signals of a process. Here: nothing of them."""

import ctypes
import os
from typing import Final

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same number on every architecture
_ASK_VERSION = 1
# What each version of the interface can forbid beyond the one before: of files, of TCP, and of
# abstract sockets and signals outside.
_FILES: Final = {1: 0x1FFF, 2: 0x2000, 3: 0x4000, 5: 0x8000}
_TCP: Final = {4: 0x3}
_SCOPES: Final = {6: 0x3}


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def install() -> int:
    """Forbid this process all that Landlock knows. Needs no_new_privs.

    Returns:
        The version of the interface that is in force; 0 on a kernel without it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))
    if version < 1:
        return 0
    rules = _Ruleset(_known(_FILES, version), _known(_TCP, version), _known(_SCOPES, version))
    # An older kernel wants zeros after the fields it knows, and they are zeros there.
    descriptor = libc.syscall(
        _CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), 0
    )
    if descriptor < 0:
        return 0
    in_force: bool = libc.syscall(_RESTRICT_SELF, descriptor, 0) == 0
    os.close(descriptor)
    return version if in_force else 0


def _known(rights: dict[int, int], version: int) -> int:
    return sum(bits for since, bits in rights.items() if since <= version)
