"""Confinement of a parser's process: what it can never do again, whatever a document makes of it.

Each layer stands where the host allows it; the filter of system calls alone leaves nothing open.
What is in force on a machine is measured by `workers.sandbox_probe`.
"""

import ctypes
import resource
from dataclasses import dataclass

from workers.parsers import landlock, seccomp
from workers.parsers.model import ParserLimits

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
_OPEN_FILES_MAX = 64


@dataclass(frozen=True)
class Layers:
    """The layers that stand.

    Attributes:
        seccomp: The filter of system calls.
        landlock: The version of Landlock in force, 0 without.
        network_namespace: It is alone in an empty network.
    """

    seccomp: bool
    landlock: int
    network_namespace: bool


def confine(limits: ParserLimits) -> Layers:
    """Confine this process. Nothing can be imported or opened afterwards.

    Args:
        limits: Of its memory and files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # An empty network, with rights of our own or of a new user namespace.
    alone = libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    for kind, wanted in (
        (resource.RLIMIT_AS, limits.memory_bytes_max),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES_MAX),
        # Binds every user but root: no second process, no thread.
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # No capability stays: not root's own, and none of a new user namespace.
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    version = landlock.install()
    return Layers(seccomp.install(), version, alone)
