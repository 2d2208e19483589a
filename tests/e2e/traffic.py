#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real clients: HTTP and UDP load through ordinary kernel sockets. Run inside the client's namespace.

  traffic.py requests HOST PORT --count N [--concurrency N] [--path P] [--source ADDR --source-port P]
      N GETs over N connections, one JSON report
  traffic.py load HOST PORT --connections N [--probe-interval S]
      keeps N connections open, a request on each every --interval; beside them opens a new connection every
      --probe-interval for one request. Commands on stdin, one JSON line each: "report", "stop".
  traffic.py udp HOST PORT --flows N --repeat K
      N sockets, K datagrams on each, answered by udp_echo.py

Times are CLOCK_MONOTONIC seconds, comparable between processes of one host.
"""
import argparse
import asyncio
import collections
import json
import socket
import sys
import time


class BrokenConnection(Exception):
    pass


class Connection:
    """One HTTP/1.1 keep-alive connection."""

    def __init__(self, args, source_port=0):
        self.args, self.source_port = args, source_port
        self.reader = self.writer = None

    async def open(self, timeout_s):
        source = (self.args.source, self.source_port) if self.args.source else None
        try:
            self.reader, self.writer = await asyncio.wait_for(
                asyncio.open_connection(self.args.host, self.args.port, local_addr=source), timeout_s)
        except asyncio.TimeoutError:
            raise BrokenConnection("connect: timeout") from None
        except OSError as error:
            raise BrokenConnection(f"connect: {error.strerror or error}") from None
        return self

    async def get(self, path, timeout_s):
        """@return (X-Backend header or '', body)."""
        try:
            return await asyncio.wait_for(self._get(path), timeout_s)
        except asyncio.TimeoutError:
            raise BrokenConnection(f"no answer in {timeout_s:g} s") from None
        except asyncio.IncompleteReadError:
            raise BrokenConnection("closed by the server") from None
        except OSError as error:
            raise BrokenConnection(error.strerror or str(error)) from None

    async def _get(self, path):
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: fulcrum.test\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {key.strip().lower(): value.strip()
                   for key, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        if " 200 " not in head[0] + " ":
            raise BrokenConnection(f"status {head[0]}")
        return headers.get("x-backend", ""), body.decode()

    def close(self):
        if self.writer:
            self.writer.close()


async def requests(args):
    """--count requests, each on a connection of its own."""
    gate = asyncio.Semaphore(args.concurrency)
    backends, failed, bodies = collections.Counter(), [], collections.Counter()

    async def one(index):
        connection = Connection(args, args.source_port and args.source_port + index)
        async with gate:
            try:
                await connection.open(args.timeout)
                backend, body = await connection.get(args.path, args.timeout)
                backends[backend] += 1
                bodies[body] += 1
            except BrokenConnection as error:
                failed.append(str(error))
            finally:
                connection.close()

    await asyncio.gather(*[one(i) for i in range(args.count)])
    print(json.dumps({"backends": backends, "failed": failed, "bodies": bodies}), flush=True)


class Load:
    """Held connections and probes by new ones; see report() for what is known of them."""

    def __init__(self, args):
        self.args = args
        self.held = []    # [Connection, backend] of the connections that are open
        self.broken = []  # {"at", "backend", "reason"} of held connections; never replaced
        self.n_requests = 0
        self.longest_s = 0.0
        self.moved = []   # a connection answered by another backend than before: must not happen
        self.probes = []  # [started at, ended at, backend or None, reason or None]

    async def hold(self, index, opened):
        state = [await Connection(self.args).open(self.args.timeout), None]
        try:
            state[1], _ = await state[0].get(self.args.path, self.args.timeout)
            self.held.append(state)
            opened[index].set_result(None)
            while True:
                await asyncio.sleep(self.args.interval)
                started = time.monotonic()
                backend, _ = await state[0].get(self.args.path, self.args.timeout)
                self.longest_s = max(self.longest_s, time.monotonic() - started)
                self.n_requests += 1
                if backend != state[1]:
                    self.moved.append([state[1], backend])
        except BrokenConnection as error:
            self.broken.append({"at": time.monotonic(), "backend": state[1], "reason": str(error)})
            if state in self.held:
                self.held.remove(state)
            if not opened[index].done():
                opened[index].set_exception(error)
        finally:
            state[0].close()

    async def probe(self):
        started, backend, reason = time.monotonic(), None, None
        connection = Connection(self.args)
        try:
            await connection.open(self.args.probe_timeout)
            backend, _ = await connection.get(self.args.path, self.args.probe_timeout)
        except BrokenConnection as error:
            reason = str(error)
        finally:
            connection.close()
        self.probes.append([started, time.monotonic(), backend, reason])

    async def probe_forever(self, tasks):
        while True:
            task = asyncio.ensure_future(self.probe())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(self.args.probe_interval)

    def report(self):
        return {"now": time.monotonic(), "open": collections.Counter(backend for _, backend in self.held),
                "broken": self.broken, "moved": self.moved, "n_requests": self.n_requests,
                "longest_s": self.longest_s, "probes": self.probes}

    async def run(self):
        loop = asyncio.get_running_loop()
        opened = [loop.create_future() for _ in range(self.args.connections)]
        tasks = {asyncio.ensure_future(self.hold(i, opened)) for i in range(self.args.connections)}
        await asyncio.gather(*opened)
        tasks.add(asyncio.ensure_future(self.probe_forever(tasks)))
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        print(json.dumps(self.report()), flush=True)
        while True:
            command = (await commands.readline()).decode().strip()
            print(json.dumps(self.report()), flush=True)
            if command != "report":
                break
        for task in list(tasks):
            task.cancel()


async def udp(args):
    """--flows sockets (source ports), --repeat datagrams on each with a retry; who answered which flow."""
    loop = asyncio.get_running_loop()
    flows = []

    async def one(gate):
        async with gate:
            answers, lost = [], 0
            sock = socket.socket(socket.AF_INET6 if ":" in args.host else socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            if args.source:
                sock.bind((args.source, 0))
            sock.connect((args.host, args.port))
            with sock:
                for i in range(args.repeat):
                    await loop.sock_sendall(sock, f"query {i}".encode())
                    try:
                        answer = json.loads(await asyncio.wait_for(loop.sock_recv(sock, 2000), args.timeout))
                        assert answer["query"] == f"query {i}"
                        answers.append(answer)
                    except (asyncio.TimeoutError, OSError):
                        lost += 1
            flows.append({"backends": [a["backend"] for a in answers],
                          "clients": sorted({a["client"] for a in answers}), "lost": lost})

    gate = asyncio.Semaphore(args.concurrency)
    await asyncio.gather(*[one(gate) for _ in range(args.flows)])
    print(json.dumps({"flows": flows}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["requests", "load", "udp"])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--path", default="/")
    parser.add_argument("--source", help="local address")
    parser.add_argument("--source-port", type=int, default=0,
                        help="requests: local port of the first connection, the next has the next (default: the "
                        "kernel's choice)")
    parser.add_argument("--timeout", type=float, default=10.0, help="of a connect or a request, seconds")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--interval", type=float, default=0.5)
    parser.add_argument("--probe-interval", type=float, default=0.05)
    # A SYN that is lost is sent again after 1 s: no probe survives that by default.
    parser.add_argument("--probe-timeout", type=float, default=0.95)
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    asyncio.run({"requests": requests, "udp": udp, "load": lambda a: Load(a).run()}[args.what](args))


if __name__ == "__main__":
    main()
