"""A machine that allows less than this one: system calls that a filter refuses from here on.

`python -m tests.support.weak_kernel no_namespaces -- command` runs a command there: Docker's own
filter refuses `unshare` to a container without CAP_SYS_ADMIN. `no_sandbox` refuses every layer;
with `no_tracing` root may look into no more processes than a plain user.
"""

import ctypes
import os
import platform
import sys
from struct import pack

# By name: the number on x86_64 and on aarch64.
_UNSHARE = {"x86_64": 272, "aarch64": 97}
_PRCTL = {"x86_64": 157, "aarch64": 167}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_LANDLOCK_CREATE_RULESET = 444
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_PR_CAPBSET_DROP = 24
_RIGHTS_TO_LOOK = (19, 21, 38)  # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_EPERM, _ALLOW = 0x00050001, 0x7FFF0000


def no_namespaces() -> None:
    _install([_refusal(_UNSHARE[platform.machine()])])


def no_landlock() -> None:
    _install([_refusal(_LANDLOCK_CREATE_RULESET)])


def no_sandbox() -> None:
    machine = platform.machine()
    calls = (_UNSHARE[machine], _SECCOMP[machine], _LANDLOCK_CREATE_RULESET)
    prctl = [
        (_EQUAL, 0, 3, _PRCTL[machine]),
        (_LOAD, 0, 0, 16),
        (_EQUAL, 0, 1, _PR_SET_SECCOMP),
        (_RETURN, 0, 0, _EPERM),
        (_LOAD, 0, 0, 0),
    ]
    _install([*map(_refusal, calls), prctl])


def no_tracing() -> None:
    for right in _RIGHTS_TO_LOOK:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, right, 0, 0, 0)  # in force after exec


def _refusal(number: int) -> list[tuple[int, int, int, int]]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]


def _install(refusals: list[list[tuple[int, int, int, int]]]) -> None:
    rules = [(_LOAD, 0, 0, 0), *(one for many in refusals for one in many), (_RETURN, 0, 0, _ALLOW)]
    code = b"".join(pack("=HBBI", *one) for one in rules)
    kept = ctypes.create_string_buffer(code, len(code))
    program = pack("@HP", len(rules), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0) == 0, ctypes.get_errno()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    os.execv(sys.argv[3], sys.argv[3:])
