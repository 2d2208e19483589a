# SPDX-License-Identifier: BSD-3-Clause
"""A name server for tests, in a thread: A and AAAA of a few names over UDP and TCP, and the ways in which servers fail."""
import ipaddress
import socket
import socketserver
import struct
import threading

NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5


class DnsServer:
    """A context manager. `records`: {name: [address, ...]}; `rcode` other than 0 for every name; `silent`."""

    def __init__(self, records, ttl_s=1, port=0):
        self.records, self.ttl_s, self.rcode, self.silent, self.n_queries = records, ttl_s, NOERROR, False, 0
        self.cut = False  # over UDP, so that TCP is asked
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                if reply := outer.answer(data, outer.cut):
                    sock.sendto(reply, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self):
                if len(size := self.rfile.read(2)) == 2:
                    reply = outer.answer(self.rfile.read(struct.unpack("!H", size)[0]), False)
                    if reply:
                        self.wfile.write(struct.pack("!H", len(reply)) + reply)

        socketserver.TCPServer.allow_reuse_address = True
        self.udp = socketserver.UDPServer(("127.0.0.1", port), Udp)
        self.port = self.udp.server_address[1]
        self.tcp = socketserver.TCPServer(("127.0.0.1", self.port), Tcp)
        self.threads = [threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True) for s in (self.udp, self.tcp)]
        for thread in self.threads:
            thread.start()

    def answer(self, query, cut):
        self.n_queries += 1
        if self.silent:
            return None
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        question = query[12:at + 5]
        record, = struct.unpack("!H", query[at + 1:at + 3])
        rcode, addresses = self.rcode, []
        if rcode == NOERROR:
            found = self.records.get(".".join(labels))
            rcode = NXDOMAIN if found is None else NOERROR
            wanted = {1: 4, 28: 6}.get(record)
            addresses = [a for a in map(ipaddress.ip_address, found or []) if a.version == wanted]
        flags = 0x8180 | (0x0200 if cut else 0) | rcode
        addresses = [] if cut else addresses
        answers = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", record, 1, self.ttl_s, len(a.packed)) + a.packed
                           for a in addresses)
        return query[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0) + question + answers

    def stop(self):
        for server in (self.udp, self.tcp):
            server.shutdown()
            server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


__all__ = ["DnsServer", "NOERROR", "SERVFAIL", "NXDOMAIN", "REFUSED"]
