# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces, veth pairs and the processes that live in them."""
import ctypes
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PATIENCE_S = 30  # for what takes a moment, on a machine that is busy with other things
_libc = ctypes.CDLL(None, use_errno=True)


def wait_for(predicate, what, timeout_s=PATIENCE_S, interval_s=0.02):
    """The first true value of predicate(); AssertionError naming `what` (text or callable) after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what() if callable(what) else what}")
        time.sleep(interval_s)


def run(*command, check=True, **kwargs):
    """subprocess.run() with text output captured; a failure shows what the command said."""
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr or done.stdout}")
    return done


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Process:
    """A child process in its own process group, its output in a log file."""

    def __init__(self, name, command, log, env=None, detached=False, **kwargs):
        self.name, self.command, self.log = name, [str(word) for word in command], Path(log)
        with open(log, "ab") as out:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
            kwargs.setdefault("stdout", out)
            self.popen = subprocess.Popen(self.command, stderr=out, env={**os.environ, **(env or {})},
                                          start_new_session=True,
                                          preexec_fn=None if detached else _die_with_parent, **kwargs)
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def kill_group(self):
        """SIGKILL to the process and all that it started; returns once it is gone."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def stop(self, timeout_s=PATIENCE_S):
        """SIGTERM, then SIGKILL for what does not listen. @return exit status, negative: the signal."""
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
        self.kill_group()
        return self.popen.returncode

    def tail(self, n_lines=30):
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-n_lines:])


class Namespace:
    """A network namespace with loopback up and the settings that a test needs to be deterministic."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        with self.entered():
            for setting, value in (("ipv6/conf/all/accept_dad", 0), ("ipv6/conf/default/accept_dad", 0),
                                   ("ipv6/conf/default/accept_ra", 0), ("ipv4/ip_forward", 0),
                                   ("ipv6/conf/all/forwarding", 0), ("ipv4/conf/all/rp_filter", 0),
                                   ("ipv4/conf/default/rp_filter", 0), ("ipv4/tcp_timestamps", 1),
                                   ("ipv4/ip_local_port_range", "10000 65000")):
                Path("/proc/sys/net", setting).write_text(str(value))
        self.ip("link set lo up")

    def delete(self):
        run("ip", "netns", "del", self.name, check=False)

    def ip(self, *lines):
        """Run `ip` commands in the namespace, one per line."""
        run("ip", "-n", self.name, "-batch", "-", input="\n".join(lines) + "\n")

    def run(self, *command, **kwargs):
        return run("ip", "netns", "exec", self.name, *[str(word) for word in command], **kwargs)

    def start(self, name, command, log, **kwargs):
        # `ip netns exec` replaces itself by the command: the pid is the command's.
        return Process(name, ["ip", "netns", "exec", self.name, *command], log, **kwargs)

    @contextmanager
    def entered(self):
        """The calling thread is in the namespace: sockets that it opens stay there."""
        with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{self.name}") as inside:
            if _libc.setns(inside.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.name}")
            try:
                yield self
            finally:
                _libc.setns(before.fileno(), CLONE_NEWNET)

    def mac(self, interface):
        with self.entered():
            # /sys shows the namespace of its mount, not ours: ask by ioctl (SIOCGIFHWADDR).
            import fcntl
            import socket
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                reply = fcntl.ioctl(sock, 0x8927, interface.encode().ljust(40, b"\0"))
        return ":".join(f"{byte:02x}" for byte in reply[18:24])


def veth(ns_a, if_a, ns_b, if_b):
    """A veth pair, both ends up, every offload off: frames are on the wire as a NIC would see them."""
    run("ip", "link", "add", if_a, "netns", ns_a.name, "type", "veth",
        "peer", "name", if_b, "netns", ns_b.name)
    for ns, interface in ((ns_a, if_a), (ns_b, if_b)):
        ns.run("ethtool", "-K", interface, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
        ns.ip(f"link set {interface} up")


class LineReader:
    """Collects the lines that a process writes to a pipe, in a thread, so that it never blocks."""

    def __init__(self, stream):
        self.lines, self.changed = [], threading.Condition()
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def wait_line(self, index, timeout_s):
        """Line number `index` (from 0) once it is there; None after timeout_s."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.lines) > index, timeout_s)
            return self.lines[index] if len(self.lines) > index else None
