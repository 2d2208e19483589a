# SPDX-License-Identifier: BSD-3-Clause
"""The control side of the shared memory, played by the test: messages of lb/msg.h and the tool shm_poke."""
import json
import socket
import struct
import subprocess
from ipaddress import ip_address

from netns import PATIENCE_S, LineReader

(PING, SYNC_BEGIN, SYNC_END, SECRET_SET, SERVICE_SET, SERVICE_DEL, BACKEND_SET, BACKEND_DEL, TABLE_PUBLISH,
 NEXTHOP_SET, NEXTHOP_DEL, ROUTE_SET, ROUTE_DEL, TRACE, FLOWS_FLUSH, FLOWS_COUNT, LOCAL_SET, SESSION_NEXT, SYNC_OBJECTS,
 OP_N) = range(1, 21)
DOWN, UP, DRAIN = range(3)
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
MAX_SERVICES, BACKEND_NONE, MAX_NEXTHOPS, MAX_SLOTS, N_TABLES = 4096, 65535, 16384, 655373, 8


def addr(text):
    """struct lb_addr: IPv4 in the mapped form."""
    packed = ip_address(text).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def port_be(port):
    return struct.pack("!H", port)


def message(op, payload=b"", seq=1, worker=0):
    return struct.pack("<IHH", seq, op, worker) + payload.ljust(56, b"\0")


def id_payload(number):
    return struct.pack("<H", number)


def service(id=0, vip="203.0.113.10", port=80, proto=TCP, mode=0, on_empty=0, tracking=0, scheduler=0, zero=b"\0\0",
            key_zero=bytes(5), idle_ms=900000):
    return (addr(vip) + port_be(port) + bytes([proto]) + key_zero + struct.pack("<H", id) +
            bytes([mode, on_empty, tracking, scheduler]) + zero + struct.pack("<I", idle_ms))


def backend(id=0, service=0, address="10.2.0.11", port=8080, nexthop=0, state=UP, zero=bytes(3), weight=1):
    return (addr(address) + port_be(port) + struct.pack("<HHH", id, service, nexthop) + bytes([state]) + zero +
            struct.pack("<I", weight))


def table(service=0, buffer=0, n_slots=65537, checksum=0, version=1, zero=0):
    return struct.pack("<HHIQII", service, buffer, n_slots, checksum, version, zero)


def nexthop(id=1, port=0, mac="02:00:00:00:00:01", vlan=0, resolved=1, zero=bytes(3)):
    return struct.pack("<HH6sHB", id, port, bytes.fromhex(mac.replace(":", "")), vlan, resolved) + zero


def route(prefix="198.51.100.0", family=4, length=24, nexthop=1, zero=0):
    return addr(prefix) + bytes([family, length]) + struct.pack("<HI", nexthop, zero)


def trace(src="198.51.100.10", dst="203.0.113.10", sport=40000, dport=80, proto=TCP, syn=1, zero=b"\0\0"):
    return addr(src) + addr(dst) + port_be(sport) + port_be(dport) + bytes([proto, syn]) + zero


def flush(service=0, backend=BACKEND_NONE, zero=0):
    return struct.pack("<HHI", service, backend, zero)


class Poke:
    """A running shm_poke; a context manager."""

    def __init__(self, lab):
        self.process = lab.start(lab.lb, "shm_poke", [lab.build / "tests/e2e/shm_poke", lab.id],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.reader, self.n_read, self.seq = LineReader(self.process.popen.stdout), 0, 1000

    def command(self, line):
        self.process.popen.stdin.write(line.encode() + b"\n")
        self.process.popen.stdin.flush()
        answer = self.reader.wait_line(self.n_read, PATIENCE_S)
        assert answer is not None, f"shm_poke is silent:\n{self.process.tail()}"
        self.n_read += 1
        return json.loads(answer)

    def send(self, op, payload=b"", **fields):
        """Push one command. @return its status (0 or -errno), after checking that the reply is to this command."""
        self.seq += 1
        fields.setdefault("seq", self.seq)
        answer = self.command("send " + message(op, payload, **fields).hex())
        assert (answer.get("seq"), answer.get("op")) == (fields["seq"], op), answer
        return answer["status"]

    def slots(self, buffer, n_slots, *ids):
        """Fill a table buffer. @return its checksum for version 1."""
        return self.command(f"slots {buffer} {n_slots} {' '.join(map(str, ids))}")["checksum"]

    def publish(self, service=0, ids=(0,), n_slots=251, buffer=0):
        """Publish a table of these backends' ids. @return status."""
        return self.send(TABLE_PUBLISH, table(service=service, buffer=buffer, n_slots=n_slots,
                                              checksum=self.slots(buffer, n_slots, *ids)))

    def info(self):
        return self.command("info")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.popen.stdin.close()
        self.process.kill_group()
