"""The step between fork and exec: give up root if asked, tie this process's life to its parent's, become the command.

Run as `python -I -S child.py DEATH_SIGNAL PARENT_PID UID GID NAMED COMMAND…` (UID -1: stay who we are; NAMED 1: the
command looks its user up by name). It is a program of its own and not a `preexec_fn`, because running Python between fork
and exec can deadlock in a process with threads.
"""

import ctypes
import os
import pwd
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000


def take_a_name(libc: ctypes.CDLL) -> None:
    """Give a user that stands in no passwd file (a bare number in a container) the name of one, in a user namespace.

    `initdb` looks up who runs it and ends when nobody is found. Files still belong to the number.
    """
    uid, gid = os.geteuid(), os.getegid()
    if any(user.pw_uid == uid for user in pwd.getpwall()):
        return
    named = next((user for user in pwd.getpwall() if user.pw_name == "nobody"), None)
    if named is None or libc.unshare(CLONE_NEWUSER) != 0:
        sys.exit(
            f"User {uid} has no name here, which this program needs; add one to /etc/passwd or run as another user."
        )
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{named.pw_uid} {uid} 1"),
        ("gid_map", f"{named.pw_gid} {gid} 1"),
    ):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as mapping:
            mapping.write(text)


def main() -> None:
    """Become the command; on failure say why on stderr and exit 127."""
    death_signal, parent, uid, gid = (int(value) for value in sys.argv[1:5])
    is_named = sys.argv[5] == "1"
    command = sys.argv[6:]
    libc = ctypes.CDLL(None, use_errno=True)
    os.umask(0o077)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if is_named:
        take_a_name(libc)
    # After the change of user, which clears it. The signal comes when the *thread* that forked us ends.
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("The parent died before this process began.")
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        os.execv(command[0], command)  # noqa: S606 - the command comes from the supervisor, and no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
