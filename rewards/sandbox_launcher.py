"""The inside of `rlcs.rewards.sandbox`: `python -I -S sandbox_launcher.py FD`. Needs the standard library only.

The launcher reads an order (a line of JSON) from the control socket FD, forks the program's process behind namespaces,
limits and a system call filter, and reports how it ended (a line of JSON). It kills the program as soon as the control
socket closes: when the parent says so, and also when the parent is gone.

With `isolated`, the program is process 1 of a process namespace of its own, in a root that holds the folders of
`binds`, read-only, and one writable folder in memory. Killing process 1 ends whatever it started. No process can be
started in the first place: the filter lets it make threads only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any, NoReturn

WORK_FOLDER = "/tmp"  # nosec B108 # noqa: S108 - inside of the new root
_SETUP_FAILED = 97
_NOBODY = 65534
_FIRST_UID = 2_000_000_000

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 32, 4096
_MS_REC, _MS_PRIVATE, _MS_RELATIME, _MNT_DETACH = 16384, 1 << 18, 1 << 21, 2
_ST_RELATIME = 4096
_LOCKED_FLAGS = 2 | 4 | 8 | 1024 | 2048
"""nosuid, nodev, noexec, noatime, nodiratime: the same numbers in statvfs and mount; a user namespace must keep them."""
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_CLONE_THREAD = 0x00010000

_MACHINES = {"x86_64": (1, 0xC000003E), "aarch64": (2, 0xC00000B7)}
"""Name of a machine to its column below and its audit number."""
_SYSTEM_CALLS = """
clone 56 220, clone3 435 435, prctl 157 167, tgkill 234 131, pivot_root 155 41, fork 57 -, vfork 58 -,
setsid 112 157, setpgid 109 154, kill 62 129, tkill 200 130, rt_sigqueueinfo 129 138,
rt_tgsigqueueinfo 297 240, pidfd_send_signal 424 424, pidfd_open 434 434, pidfd_getfd 438 438, ptrace 101 117,
process_vm_readv 310 270, process_vm_writev 311 271, socket 41 198, shmget 29 194, msgget 68 186,
semget 64 190, mq_open 240 180, memfd_create 319 279, memfd_secret 447 447, unshare 272 97, setns 308 268,
mount 165 40, umount2 166 39, chroot 161 51, open_tree 428 428, move_mount 429 429, fsopen 430 430,
fsmount 432 432, mount_setattr 442 442, bpf 321 280, perf_event_open 298 241, userfaultfd 323 282,
keyctl 250 219, add_key 248 217, request_key 249 218, io_uring_setup 425 425
"""
"""The calls that the filter treats, with their numbers on x86-64 and aarch64."""
_SPECIAL_CALLS = frozenset({"clone", "clone3", "prctl", "tgkill"})

_libc = ctypes.CDLL(None, use_errno=True)


class SetupError(Exception):
    """The sandbox cannot be made on this machine."""


def main(control_fd: int) -> None:
    """Serve one order, then end."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    line = bytearray()
    while not line.endswith(b"\n"):
        received = control.recv(1 << 16)
        if not received:
            return
        line += received
    order = json.loads(line)
    try:
        if order["isolated"]:
            _enter_namespaces()
        alive, held = os.pipe()  # the launcher holds one end: the other closes with its death
        pid = os.fork()
    except (OSError, SetupError) as error:
        _report(control, {"setup": str(error)})
        return
    if pid == 0:
        os.close(held)
        try:
            _become_program(order, alive)
        except (OSError, SetupError, ValueError) as error:
            _report(control, {"setup": str(error)})
        os._exit(_SETUP_FAILED)
    os.close(alive)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # or the far ends would not see that the program closed them
        os.dup2(null, descriptor)
    _wait(control, pid)


def _wait(control: socket.socket, pid: int) -> None:
    """Reap the program, killed if the control socket closes, and report."""
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLHUP)
    poll.register(process, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    if process not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    report = {"code": os.waitstatus_to_exitcode(status), "cpu_s": usage.ru_utime + usage.ru_stime}
    _report(control, report)


def _report(control: socket.socket, report: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the parent is gone: nobody to tell
        control.sendall(json.dumps(report).encode() + b"\n")


def _enter_namespaces() -> None:
    """Leave the network, the processes and the mounts of the machine: as root without, else with a user namespace."""
    flags = _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _libc.unshare(flags) == 0:
        return
    _check(_libc.unshare(flags | _CLONE_NEWUSER), "no user namespaces")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {uid} 1"),
        ("gid_map", f"{_NOBODY} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _become_program(order: dict[str, Any], alive: int) -> NoReturn:
    """Shut this process in, and execute the program; `alive` closes where the launcher dies."""
    limits = order["limits"]
    os.umask(0o022)
    if order["isolated"]:
        _enter_root(order["binds"], order["hidden"], limits["disk_mb"])
        folder = WORK_FOLDER
    else:
        folder = order["folder"]
    os.chdir(folder)
    for name, text in order["files"].items():
        with open(name, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
    if order["isolated"] and os.geteuid() == 0:
        _drop_root()
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # here, since another user would have undone it
    if select.select([alive], [], [], 0)[0]:  # the launcher died before: its death will be told to nobody
        os._exit(_SETUP_FAILED)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _set_limits(limits)
    os.closerange(3, 1 << 16)
    _filter_system_calls()
    python = order["python"]
    os.execve(python, [python, "-I", "-S", "-X", "utf8", *order["arguments"]], {})  # noqa: S606 - the point of it all


def _set_limits(limits: dict[str, Any]) -> None:
    megabyte = 1024 * 1024
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_mb"] * megabyte),
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_FSIZE, limits["disk_mb"] * megabyte),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["threads"]),
        (resource.RLIMIT_STACK, 8 * megabyte),  # of each thread, too
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _enter_root(binds: list[str], hidden: list[str], disk_mb: int) -> None:
    """Change into a root in memory that holds the folders of `binds`, less `hidden`, and a few devices, read-only."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root = next(
        folder
        for folder in ("/tmp", "/mnt", "/media", "/srv", "/var/tmp")  # nosec B108 # noqa: S108 - only to mount over, for us alone
        if os.path.isdir(folder) and not any(f"{bind}/".startswith(f"{folder}/") for bind in binds)
    )
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,nr_inodes=1k,mode=755")
    devices = [f"/dev/{name}" for name in ("null", "zero", "random", "urandom")]
    for source in sorted({*binds, *devices}):  # a folder comes before what is in it
        target = root + source
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target):
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        _mount(source, target, None, _MS_BIND)
        found = os.statvfs(target).f_flag
        kept = (found & _LOCKED_FLAGS) | (_MS_RELATIME if found & _ST_RELATIME else 0)
        read_only = 0 if source in devices else _MS_RDONLY | _MS_NOSUID | _MS_NODEV
        _mount(None, target, None, _MS_BIND | _MS_REMOUNT | kept | read_only)
    for folder in hidden:
        _mount("tmpfs", root + folder, "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, "size=4k")
    os.makedirs(root + WORK_FOLDER, exist_ok=True)
    _mount("tmpfs", root + WORK_FOLDER, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={disk_mb}m,nr_inodes=1k,mode=1777")
    _mount(None, root, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir(root)
    _check(_libc.syscall(_calls()[1]["pivot_root"], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def _drop_root() -> None:
    """Become a user that is nobody else: one of its own where there are such, so that limits are its own too."""
    os.setgroups([])
    for identity in (_FIRST_UID + os.getppid() + int.from_bytes(os.urandom(3), "big"), _NOBODY):
        with contextlib.suppress(OSError):
            os.setresgid(identity, identity, identity)
            os.setresuid(identity, identity, identity)
            return
    raise SetupError("cannot become another user")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [text if text is None else text.encode() for text in (source, target, kind, data)]
    _check(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount of {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise SetupError(f"{what}: {os.strerror(number)}")


def _calls() -> tuple[int, dict[str, int]]:
    """The machine's audit number, and the numbers of its system calls by name."""
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise SetupError(f"no system call filter for {machine}")
    column, audit = _MACHINES[machine]
    rows = [entry.split() for entry in _SYSTEM_CALLS.replace("\n", " ").split(",")]
    return audit, {row[0]: int(row[column]) for row in rows if row[column] != "-"}


class _Instruction(ctypes.Structure):
    """An instruction of a classic BPF program (linux/filter.h)."""

    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000


def _filter_system_calls() -> None:
    """Refuse new processes, other processes, sockets, shared memory and the kernel's larger doors."""
    machine, numbers = _calls()
    refuse = _REFUSE | errno.EPERM
    program = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, 0x40000000),  # the x32 numbers of x86-64
        (_RETURN, 0, 0, _KILL),
    ]
    for name, number in numbers.items():
        if name not in _SPECIAL_CALLS:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]

    def by_first_argument(name: str, test: int, value: int, if_true: int, if_false: int) -> None:
        program.extend(
            [
                (_EQUAL, 0, 4, numbers[name]),
                (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
                (test, 0, 1, value),
                (_RETURN, 0, 0, if_true),
                (_RETURN, 0, 0, if_false),
            ]
        )

    by_first_argument("clone", _ANY_BIT, _CLONE_THREAD, _ALLOW, refuse)
    by_first_argument("prctl", _EQUAL, _PR_SET_PDEATHSIG, refuse, _ALLOW)
    by_first_argument("tgkill", _EQUAL, os.getpid(), _ALLOW, refuse)  # abort() and threads signal themselves
    program += [
        (_EQUAL, 0, 1, numbers["clone3"]),
        (_RETURN, 0, 0, _REFUSE | errno.ENOSYS),  # libc then takes clone, whose flags a filter can see
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = (_Instruction * len(program))(*(_Instruction(*fields) for fields in program))
    wanted = _Program(len(program), instructions)
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(wanted), 0, 0), "system call filter")


if __name__ == "__main__":
    main(int(sys.argv[1]))
