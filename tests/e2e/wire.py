# SPDX-License-Identifier: BSD-3-Clause
"""Frames as they are on an interface, sent and received past every stack."""
import select
import socket
import struct
import time

PATIENCE_S = 30
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40


class Wire:
    """A packet socket on an interface of a namespace."""

    def __init__(self, ns, interface):
        with ns.entered():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.sock.bind((interface, ETH_P_ALL))
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.mac = ns.mac(interface)

    def send(self, frame):
        self.sock.send(bytes(frame))

    def flush(self):
        """Forget what has been received so far."""
        while self._receive(0) is not None:
            pass

    def _receive(self, timeout_s):
        """The next frame, or None; b"" for one of our own."""
        if not select.select([self.sock], [], [], timeout_s)[0]:
            return None
        frame, control, _, address = self.sock.recvmsg(65536, 256)
        if address[2] == socket.PACKET_OUTGOING:
            return b""
        for level, kind, data in control:  # the kernel hands a VLAN tag over beside the frame: put it back
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                if status & TP_STATUS_VLAN_VALID:
                    tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
        return frame

    def expect(self, wanted, timeout_s=PATIENCE_S):
        """The first frame for which wanted(frame) is true; AssertionError with what came instead."""
        deadline, others = time.monotonic() + timeout_s, []
        while time.monotonic() < deadline:
            frame = self._receive(max(0, deadline - time.monotonic()))
            if frame and wanted(frame):
                return frame
            if frame:
                others.append(frame.hex())
        raise AssertionError(f"no such frame in {timeout_s:g} s; came: {others[-5:]}")

    def received(self, wanted):
        """Frames that have arrived and for which wanted(frame) is true, without waiting."""
        frames = []
        while (frame := self._receive(0)) is not None:
            if frame and wanted(frame):
                frames.append(frame)
        return frames

    def close(self):
        self.sock.close()
