"""A seccomp filter of the system calls that a parser needs; the kernel refuses all others.

It opens nothing, not even for reading: whatever a parser needs is loaded before.
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENOSYS, EPERM
from struct import pack
from typing import Final

# By name: its number on x86_64 and on aarch64, which lacks a few.
_ALLOWED: Final[dict[str, tuple[int, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "futex": (202, 98),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "close": (3, 57),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "sysinfo": (99, 179),
    "getrusage": (98, 165),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
}


@dataclass(frozen=True)
class Machine:
    """An architecture whose system calls are known.

    Attributes:
        column: Its place in `_ALLOWED`.
        audit: What the kernel calls it.
        tgkill: A thread of this process may signal another one of it: `abort` does.
        prlimit64: Limits of this process itself may be read and lowered.
        clone3: Is told to be missing, so that libc tries `clone`, which is refused.
    """

    column: int
    audit: int
    tgkill: int
    prlimit64: int
    clone3: int = 435


MACHINES: Final = {
    "x86_64": Machine(0, 0xC000003E, tgkill=234, prlimit64=302),
    "aarch64": Machine(1, 0xC00000B7, tgkill=131, prlimit64=261),
}

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_POINTER_BITS = 64  # an interpreter of 32 bits has other numbers on the same machine
_Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def install() -> bool:
    """Confine this process and all its threads to come. Needs no_new_privs.

    Returns:
        Whether the filter stands; not on a kernel without it or another architecture.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None or ctypes.sizeof(ctypes.c_void_p) * 8 != _POINTER_BITS:
        return False
    code = program(machine, os.getpid())
    kept = ctypes.create_string_buffer(code, len(code))
    made = _Program(len(code) // 8, ctypes.cast(kept, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(made), 0, 0) == 0)


def program(machine: Machine, process_id: int) -> bytes:
    """The filter as the kernel reads it: classic BPF, eight bytes an instruction.

    Args:
        machine: For whose numbers.
        process_id: The process that it is for.
    """
    return b"".join(pack("=HBBI", *one) for one in _instructions(machine, process_id))


def _instructions(machine: Machine, process_id: int) -> Iterator[_Instruction]:
    # Numbers of another architecture's calls would mean other calls here.
    yield _LOAD, 0, 0, _AT_ARCHITECTURE
    yield _EQUAL, 1, 0, machine.audit
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _AT_NUMBER
    for numbers in _ALLOWED.values():
        number = numbers[machine.column]
        if number is not None:
            yield _EQUAL, 0, 1, number
            yield _RETURN, 0, 0, _ALLOW
    yield from _allowed_for(machine.tgkill, process_id)
    yield from _allowed_for(machine.prlimit64, 0)
    yield _EQUAL, 0, 1, machine.clone3
    yield _RETURN, 0, 0, _ERRNO | ENOSYS
    yield _RETURN, 0, 0, _ERRNO | EPERM


def _allowed_for(number: int, process_id: int) -> Iterator[_Instruction]:
    """Allow a call whose first argument is this process, in both halves of its 64 bits."""
    yield _EQUAL, 0, 6, number
    yield _LOAD, 0, 0, _AT_ARGUMENT
    yield _EQUAL, 0, 2, process_id
    yield _LOAD, 0, 0, _AT_ARGUMENT + 4
    yield _EQUAL, 1, 0, 0
    yield _RETURN, 0, 0, _ERRNO | EPERM
    yield _RETURN, 0, 0, _ALLOW
