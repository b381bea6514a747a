#!/usr/bin/env python3
"""Minutes of mixed load with kills, checked against a model outside.

    benches/soak.py [--minutes 10] [--writers 4] [--readers 2] [--seed N]
    scripts/s3-server with seaweedfs benches/soak.py

Writers and readers are processes of their own on one store: a folder, or BRAINY_TEST_S3_URL where that is
set. Clients upsert, delete by id and by filter, search, list and export without a pause, while every few
seconds a process is killed (SIGKILL) or stands still (SIGSTOP) for a while, each in turn. Checked: nothing
acknowledged is lost, nothing deleted or replaced returns, a strong read sees every write acknowledged
before it, an eventual one is at most --stale-seconds old, versions of one reader never go backward, the
slowest writer has at least half of the mean (over the time that it was not down), and no process takes
more memory than --ceiling-mb. In the end a new reader and every old one show exactly the model.

BRAINY_TEST_BIN names the program (default: profile dist). Exit code 1 where something did not hold.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from soak_py.load import COLLECTION, DIMENSIONS, Connection, Reader, Writer, exported
from soak_py.model import Model

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("BRAINY_TEST_BIN", ROOT / "target" / "dist" / "brainy")
SAMPLE_SECONDS = 2


def progress(text):
    print(text, file=sys.stderr, flush=True)


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=1, help="of each process")
    parser.add_argument("--ids", type=int, default=1_000, help="of each writing client")
    parser.add_argument("--pause-ms", type=float, default=20, help="of a writing client after an answer")
    parser.add_argument("--kill-every", type=float, default=8, help="seconds; 0: nobody is killed")
    parser.add_argument("--stand-still", type=float, default=4, help="seconds of a SIGSTOP")
    parser.add_argument("--stale-seconds", type=float, default=2.0)
    parser.add_argument("--ceiling-mb", type=float, default=700)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    return parser.parse_args()


class Server:
    """A process that comes back at the same port under the same id."""

    def __init__(self, soak, role, number):
        self.soak, self.role, self.name = soak, role, f"{role}-{number}"
        self.port, self.lives, self.child = 0, 0, None
        # From when to when it was down or stood still.
        self.away, self.sizes = [], []
        self.log = open(soak.folder / f"{self.name}.log", "w")
        self.start()

    def start(self):
        environment = {**os.environ, "BRAINY_ROLE": self.role, "BRAINY_STORE": self.soak.store,
                       "BRAINY_INSTANCE_ID": self.name, "BRAINY_LISTEN": f"127.0.0.1:{self.port}",
                       "BRAINY_HEARTBEAT_INTERVAL_MS": "2000", "BRAINY_INSTANCE_TIMEOUT_MS": "6000",
                       "BRAINY_INDEX_AFTER_MS": "3000", "BRAINY_GC_GRACE_MS": "20000"}
        self.child = subprocess.Popen([BINARY, "serve"], env=environment, text=True,
                                      stdout=subprocess.PIPE, stderr=self.log)
        line = self.child.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{self.name} did not start: see {self.log.name}")
        self.port = int(line.rsplit(":", 1)[1])
        self.lives += 1

    def kill(self):
        started = time.monotonic()
        self.away.append([started, None])
        self.child.kill()
        self.child.wait()
        self.start()
        self.away[-1][1] = time.monotonic()

    def stand_still(self, seconds):
        self.away.append([time.monotonic(), None])
        self.child.send_signal(signal.SIGSTOP)
        self.soak.over.wait(seconds)
        self.child.send_signal(signal.SIGCONT)
        self.away[-1][1] = time.monotonic()

    def was_stopped_since(self, moment):
        return any(end is None or end > moment for _, end in self.away)

    def away_seconds(self):
        return sum((end or time.monotonic()) - start for start, end in self.away)

    def resident_mb(self):
        try:
            with open(f"/proc/{self.child.pid}/status") as status:
                return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            return 0.0


class Soak:
    def __init__(self, args, folder, store):
        self.args, self.folder, self.store = args, Path(folder), store
        self.model, self.over = Model(), threading.Event()
        self.refusals, self.clients, self.servers = Counter(), [], []
        self.chooser = random.Random(args.seed)

    def refused(self, client, fault):
        code = str(fault).split('"code":"')[-1].split('"')[0]
        self.refusals[f"{client.server.role} {fault.status} {code}"] += 1
        if fault.status == 404:
            self.model.fault("404", str(fault))

    def run(self):
        roles = ["writer"] * self.args.writers + ["reader"] * self.args.readers
        self.servers = [Server(self, role, number) for number, role in enumerate(roles)]
        body = {"name": COLLECTION, "dimensions": DIMENSIONS, "metric": "euclidean", "partitionCount": 4}
        Connection(self.servers[0]).ask("POST", "/v1/collections", body)
        for server in self.servers:
            kind = Writer if server.role == "writer" else Reader
            self.clients += [kind(self, server, f"{server.name}-{n}") for n in range(self.args.clients)]
        started = time.monotonic()
        for client in self.clients:
            client.start()
        self.disturb(started + self.args.minutes * 60)
        self.over.set()
        for client in self.clients:
            client.join()
        self.seconds = time.monotonic() - started

    def disturb(self, until):
        turn, next_kill = 0, time.monotonic() + self.args.kill_every
        # Everybody equally often, so that the writers' shares can be compared.
        order = self.chooser.sample(self.servers, len(self.servers))
        while time.monotonic() < until:
            time.sleep(SAMPLE_SECONDS)
            for server in self.servers:
                server.sizes.append(server.resident_mb())
            if self.args.kill_every and time.monotonic() >= next_kill and until - time.monotonic() > 15:
                victim = order[turn % len(order)]
                if (turn // len(order)) % 2:
                    victim.stand_still(self.args.stand_still)
                else:
                    victim.kill()
                turn, next_kill = turn + 1, time.monotonic() + self.args.kill_every
        progress(f"{turn} kills and freezes")

    def check_at_rest(self):
        """A new reader and every old one show the model, at the newest version."""
        self.servers.append(Server(self, "reader", "new"))
        time.sleep(2 * self.args.stale_seconds)
        for server in self.servers:
            if server.role == "reader":
                headers, said = Connection(server).ask("GET", f"/v1/collections/{COLLECTION}/export")
                version = int(headers["x-brainy-version"])
                if version < self.model.newest():
                    self.model.fault("old at rest", f"{server.name}: {version} < {self.model.newest()}")
                self.model.check_all(exported(said), version, f"{server.name} at rest")

    def report(self):
        writers = [client for client in self.clients if isinstance(client, Writer)]
        readers = [client for client in self.clients if isinstance(client, Reader)]
        rates = [c.done / (self.seconds - c.server.away_seconds()) for c in writers]
        mean = statistics.mean(rates)
        print(f"\n{self.seconds:.0f} s, {sum(c.done for c in writers)} writes, {sum(c.done for c in readers)} reads, "
              f"{sum(c.cut for c in self.clients)} cut off, seed {self.args.seed}, newest version {self.model.newest()}")
        for client in self.clients:
            late = sorted(seconds * 1000 for _, seconds in client.latencies) or [0.0]
            sizes = client.server.sizes
            third = max(len(sizes) // 3, 1)
            print(f"  {client.server.name:9} {client.done:7} done  p50 {late[len(late) // 2]:7.1f} ms  "
                  f"p99 {late[int(len(late) * 0.99)]:8.1f} ms  max {late[-1]:8.1f} ms  "
                  f"RSS max {max(sizes):6.0f} MB (thirds {', '.join(f'{max(sizes[i:i + third]):.0f}' for i in range(0, 3 * third, third) if sizes[i:i + third])})")
        print(f"slowest writer {min(rates) / mean:.2f} of the mean ({min(rates):.1f} of {mean:.1f} writes/s)")
        print(f"stalest answer {max((c.stalest for c in readers), default=0):.2f} s")
        print(f"refusals: {dict(self.refusals) or 'none'}")
        if min(rates) < mean / 2:
            self.model.fault("a writer starved", f"{rates}")
        for server in self.servers:
            if server.sizes and max(server.sizes) > self.args.ceiling_mb:
                self.model.fault("over the ceiling", f"{server.name}: {max(server.sizes):.0f} MB")
        for kind, count in sorted(self.model.faults.items()):
            print(f"VIOLATION: {kind}, {count} times; the first: {self.model.examples[kind]}")
        print(f"violations: {sum(self.model.faults.values())}")
        return 1 if self.model.faults else 0


def main():
    args = options()
    with tempfile.TemporaryDirectory(prefix="brainy-soak-") as folder:
        base = os.environ.get("BRAINY_TEST_S3_URL")
        store = f"{base}/soak-{args.seed}" if base else f"file://{folder}/store"
        progress(f"store: {store}, seed {args.seed}, logs in {folder}")
        soak = Soak(args, folder, store)
        try:
            soak.run()
            soak.check_at_rest()
            return soak.report()
        finally:
            for server in soak.servers:
                server.child.kill()
                server.child.wait()


if __name__ == "__main__":
    sys.exit(main())
