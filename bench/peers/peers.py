"""The worker for the Python peers: the same commands as the Go one (see
worker/main.go), and the algorithms of python-pidfile and trbs/pid, written from
their descriptions. They are algorithms, not the packages: what the packages add
(psutil's layers, logging, atexit) is not measured."""

import fcntl
import os
import sys
import time


class Held(Exception):
    """A refusal; the PID is 0 where the algorithm does not tell it."""

    def __init__(self, pid=0):
        self.pid = pid


def first_argument(pid):
    with open("/proc/%d/cmdline" % pid, "rb") as f:
        return f.read().split(b"\0")[0]


def python_pidfile(path):
    """If the file names a live process with our argv[0], it runs; else write."""
    try:
        with open(path) as f:
            pid = int(f.read())
        if first_argument(pid) == first_argument(os.getpid()):
            raise Held()
    except (OSError, ValueError):
        pass
    with open(path, "w") as f:
        f.write(str(os.getpid()))
    return lambda: os.remove(path)


def trbs_pid(path):
    """Open to append, flock at once, judge the PID that is there, write ours."""
    f = open(path, "a+")
    try:
        fcntl.flock(f.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        f.close()
        raise Held()
    f.seek(0)
    text = f.read(16).split("\n", 1)[0].strip()
    if text:
        pid = int(text)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            pass
        else:
            f.close()
            raise Held(pid)
    os.fchmod(f.fileno(), 0o644)
    f.seek(0)
    f.truncate()
    f.write("%d\n" % os.getpid())
    f.flush()

    def release():
        f.close()
        os.remove(path)

    return release


PEERS = {"python-pidfile (Python)": python_pidfile, "trbs/pid (Python)": trbs_pid}


def cycle(acquire, path, n):
    began = time.monotonic_ns()
    for _ in range(n):
        acquire(path)()
    return time.monotonic_ns() - began


def refused(acquire, path, n):
    began = time.monotonic_ns()
    for _ in range(n):
        try:
            acquire(path)
        except Held:
            continue
        raise RuntimeError("not refused")
    return time.monotonic_ns() - began


def main():
    acquire, release = PEERS[sys.argv[1]], None
    for line in sys.stdin:
        word, *rest = line.split()
        try:
            if word == "cycle":
                answer = "took %d" % cycle(acquire, rest[0], int(rest[1]))
            elif word == "refused":
                answer = "took %d" % refused(acquire, rest[0], int(rest[1]))
            elif word == "try":
                while time.monotonic_ns() < int(rest[1]):
                    pass
                release = acquire(rest[0])
                answer = "ok %d" % time.monotonic_ns()
            elif word == "release":
                at = time.monotonic_ns()
                release()
                answer = "released %d" % at
            else:
                answer = "error no command " + word
        except Held as held:
            answer = "held %d" % held.pid
        except Exception as e:
            answer = "error %r" % e
        print(answer, flush=True)


main()
