#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A DNS-like server: answers each datagram with one that names itself and the client it saw, from the address that the
datagram came to, as a server with several addresses has to.

usage: udp_echo.py NAME PORT     (prints "ready" once both families are bound)
"""
import json
import select
import socket
import sys

IP_PKTINFO = 8  # Python 3.11 has no name for it


def source(level, kind, data):
    """Of the control message that says where a datagram came to, the one that sends the answer from there."""
    if level == socket.IPPROTO_IP:  # struct in_pktinfo: interface, local address, destination
        return level, kind, bytes(4) + data[8:12] + bytes(4)
    return level, kind, data[:16] + bytes(4)  # struct in6_pktinfo: destination, interface


sockets = []
for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((any_address, int(sys.argv[2])))
    sockets.append(sock)
print("ready", flush=True)
while True:
    for sock in select.select(sockets, [], [])[0]:
        data, control, _, client = sock.recvmsg(2000, 200)
        answer = {"backend": sys.argv[1], "client": client[0], "query": data.decode(errors="replace")}
        sock.sendmsg([json.dumps(answer).encode()], [source(*message) for message in control], 0, client)
