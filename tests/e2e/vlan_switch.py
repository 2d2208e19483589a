# SPDX-License-Identifier: BSD-3-Clause
"""A switch with a trunk port and access ports, as the kernel's bridge is where it has VLANs.

usage: vlan_switch.py TRUNK INTERFACE=VLAN...

What comes from the trunk with a tag leaves without it by the interface of that VLAN; what comes from an interface leaves
by the trunk with its tag. All else is dropped. Says "ready" when it is.
"""
import select
import socket
import struct
import sys

from wire import ETH_P_ALL, PACKET_AUXDATA, SOL_PACKET, TP_STATUS_VLAN_VALID


def open_port(interface):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((interface, ETH_P_ALL))
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    return sock


def receive(sock):
    """(frame without its tag, tag control information or None); None: our own."""
    frame, control, _, address = sock.recvmsg(65536, 256)
    if address[2] == socket.PACKET_OUTGOING:
        return None
    for level, kind, data in control:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = struct.unpack("IIIHHHH", data[:20])
            if status & TP_STATUS_VLAN_VALID:
                return frame, tci
    if frame[12:14] == b"\x81\0":
        return frame[:12] + frame[16:], struct.unpack("!H", frame[14:16])[0]
    return frame, None


def main():
    trunk = open_port(sys.argv[1])
    vlans = {int(vlan): open_port(interface) for interface, vlan in (word.split("=") for word in sys.argv[2:])}
    numbers = {sock: vlan for vlan, sock in vlans.items()}
    print("ready", flush=True)
    while True:
        for sock in select.select([trunk, *numbers], [], [])[0]:
            got = receive(sock)
            if got is None:
                continue
            frame, tci = got
            try:
                if sock is not trunk:
                    trunk.send(frame[:12] + struct.pack("!HH", 0x8100, numbers[sock]) + frame[12:])
                elif tci is not None and tci & 0xfff in vlans:
                    vlans[tci & 0xfff].send(frame)
            except OSError:
                pass  # longer than the interface takes


if __name__ == "__main__":
    main()
