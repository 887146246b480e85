"""The step between fork and exec: give up root if asked, tie this process's life to its parent's, become the command.

Run as `python -I -S child.py DEATH_SIGNAL PARENT_PID UID GID COMMAND…` (UID -1: stay who we are). It is a program of
its own and not a `preexec_fn`, because running Python between fork and exec can deadlock in a process with threads.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command; on failure say why on stderr and exit 127."""
    death_signal, parent, uid, gid = (int(value) for value in sys.argv[1:5])
    command = sys.argv[5:]
    os.umask(0o077)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user, which clears it. The signal comes when the *thread* that forked us ends.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
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
