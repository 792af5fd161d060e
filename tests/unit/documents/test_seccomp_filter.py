"""The filter of system calls, run instruction by instruction for both architectures."""

from struct import iter_unpack, pack, unpack_from

import pytest

from workers.parsers import seccomp

PID = 4321
X86_64, AARCH64, I386, ARM = 0xC000003E, 0xC00000B7, 0x40000003, 0x40000028
ALLOWED, KILLED, REFUSED, MISSING = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
X32 = 0x40000000
# From the kernel's tables of calls: x86_64, aarch64.
FORBIDDEN = {
    "socket": (41, 198), "connect": (42, 203), "sendto": (44, 206), "bind": (49, 200),
    "socketpair": (53, 199), "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "execveat": (322, 281), "open": (2, None), "openat": (257, 56), "openat2": (437, 437),
    "creat": (85, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "truncate": (76, 45), "ftruncate": (77, 46),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "mkdir": (83, None), "mkdirat": (258, 34), "mknodat": (259, 33), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "mount": (165, 40), "bpf": (321, 280), "chdir": (80, 49),
    "perf_event_open": (298, 241), "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219),
    "userfaultfd": (323, 282), "memfd_create": (319, 279), "fcntl": (72, 25), "ioctl": (16, 29),
    "prctl": (157, 167), "seccomp": (317, 277), "shmget": (29, 194), "mq_open": (240, 180),
    "statx": (332, 291), "readlinkat": (267, 78), "getdents64": (217, 61), "setuid": (105, 146),
}  # fmt: skip
NEEDED = {"read": (0, 63), "write": (1, 64), "mmap": (9, 222), "futex": (202, 98)}
MACHINES = {"x86_64": (0, X86_64), "aarch64": (1, AARCH64)}


def verdict(machine, number, *, architecture=None, first=0):
    """What the kernel would do: the classic BPF of which the filter is made, interpreted."""
    known = seccomp.MACHINES[machine]
    asked = pack("=IIQ6Q", number, architecture or known.audit, 0, first, 0, 0, 0, 0, 0)
    code = list(iter_unpack("=HBBI", seccomp.program(known, PID)))
    at, loaded = 0, 0
    while True:
        operation, if_so, if_not, value = code[at]
        at += 1
        if operation == 0x20:
            (loaded,) = unpack_from("=I", asked, value)
        elif operation == 0x15:
            at += if_so if loaded == value else if_not
        else:
            assert operation == 0x06
            return value


@pytest.mark.parametrize("machine", MACHINES)
def test_only_what_a_parser_needs_is_allowed(machine):
    column, _ = MACHINES[machine]

    for name, numbers in FORBIDDEN.items():
        if numbers[column] is not None:
            assert verdict(machine, numbers[column]) == REFUSED, name
    for name, numbers in NEEDED.items():
        assert verdict(machine, numbers[column]) == ALLOWED, name
    allowed = [n for n in range(2_000) if verdict(machine, n) == ALLOWED]
    assert len(allowed) < 50


@pytest.mark.parametrize("machine", MACHINES)
def test_a_thread_signals_only_its_own_process_and_limits_only_itself(machine):
    known = seccomp.MACHINES[machine]

    assert verdict(machine, known.tgkill, first=PID) == ALLOWED
    for other in (1, PID + 1, PID + (1 << 32), (1 << 64) - 1):
        assert verdict(machine, known.tgkill, first=other) == REFUSED
    assert verdict(machine, known.prlimit64, first=0) == ALLOWED
    assert verdict(machine, known.prlimit64, first=1) == REFUSED
    assert verdict(machine, known.prlimit64, first=1 << 32) == REFUSED


@pytest.mark.parametrize("machine", MACHINES)
def test_clone3_is_told_to_be_missing_so_that_libc_asks_for_clone(machine):
    assert verdict(machine, 435) == MISSING


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("architecture", [X86_64, AARCH64, I386, ARM])
def test_calls_of_another_architecture_end_the_process(machine, architecture):
    own = MACHINES[machine][1] == architecture

    assert (verdict(machine, 0, architecture=architecture) == KILLED) is not own


def test_the_calls_of_x32_are_refused():
    assert all(verdict("x86_64", number | X32) == REFUSED for number in range(600))
