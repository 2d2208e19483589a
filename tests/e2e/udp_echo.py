#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A DNS-like server: answers each datagram with one that names itself and the client it saw.

usage: udp_echo.py NAME PORT     (prints "ready" once both families are bound)
"""
import json
import select
import socket
import sys

sockets = []
for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((any_address, int(sys.argv[2])))
    sockets.append(sock)
print("ready", flush=True)
while True:
    for sock in select.select(sockets, [], [])[0]:
        data, client = sock.recvfrom(2000)
        answer = {"backend": sys.argv[1], "client": client[0], "query": data.decode(errors="replace")}
        sock.sendto(json.dumps(answer).encode(), client)
