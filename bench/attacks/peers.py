"""The algorithms of two Python packages, from their descriptions: they are not
in Debian. Usage: peers.py NAME PATH LOG ID MODE DURATION PATH; see command.go."""

import fcntl
import os
import signal
import subprocess
import sys
import time


class Refused(Exception):
    pass


def argv0(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read().split(b"\0")[0]


class PythonPidfile:
    """python-pidfile: look, then write."""

    def __init__(self, path):
        self.path = path

    def running(self):
        try:
            with open(self.path) as f:
                pid = int(f.read())
            return argv0(pid) == argv0(os.getpid())
        except (OSError, ValueError):
            return False

    def __enter__(self):
        if self.running():
            raise Refused("already running")
        with open(self.path, "w") as f:
            f.write(str(os.getpid()))

    def __exit__(self, *_):
        if os.path.exists(self.path):
            os.remove(self.path)


class TrbsPid:
    """trbs/pid: lock, then look, then write; close, then remove."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.file = open(self.path, "a+")
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.file.seek(0)
        text = self.file.read(16).split("\n")[0].strip()
        if text and self.exists(int(text)):
            raise Refused("already running")
        self.file.seek(0)
        self.file.truncate()
        self.file.write(f"{os.getpid()}\n")
        self.file.flush()

    @staticmethod
    def exists(pid):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def __exit__(self, *_):
        self.file.close()
        if os.path.isfile(self.path):
            os.remove(self.path)


def work(log, ident, mode, duration, path):
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(what):
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        os.write(out, f"{now} {os.getpid()} {ident} {what}\n".encode())

    over = False

    def terminate(*_):
        nonlocal over
        note("SIGTERM")
        over = mode != "victim"

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGWINCH, lambda *_: note("SIGWINCH"))
    if mode == "reads":
        with open(path, "rb") as f:
            f.read()
    if mode == "stray":
        subprocess.Popen(["sleep", "1000"])
        over = True
    end = time.monotonic() + duration if duration else float("inf")
    note("ready" if mode == "victim" else "enter")
    while not over and time.monotonic() < end:
        time.sleep(0.002 if duration else 0.02)
        if mode != "victim":
            note("beat")
    note("exit")


def seconds(text):
    """A duration as Go prints one, if it is shorter than a minute."""
    for unit, factor in (("ms", 1e-3), ("µs", 1e-6), ("s", 1)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


name, path, log, ident, mode, duration, job_path = sys.argv[1:]
job = (log, ident, mode, seconds(duration), job_path)
if name == "bystander":
    work(*job)
    sys.exit()
if "GATE" in os.environ:  # see passGate in library.go
    os.close(os.open(os.environ["GATE"], os.O_RDONLY))
    go = (time.monotonic_ns() // 10**8 + 1) * 10**8
    time.sleep(max(0, (go - time.monotonic_ns()) * 1e-9 - 0.001))
    while time.monotonic_ns() < go:
        pass
try:
    with {"python-pidfile": PythonPidfile, "trbs-pid": TrbsPid}[name](path):
        work(*job)
except (Refused, OSError, ValueError) as e:
    sys.exit(f"{type(e).__name__}: {e}")
