#!/usr/bin/env python3
"""Does an instance live in a small container while more is imported than fits into its memory?

    benches/memory.py [--limit-mib 1200,512] [--rows 600000] [--dimensions 256] [--brainy target/release/brainy]

For each limit it makes a memory cgroup (v1 or v2, so it runs as root, on Linux), starts `brainy serve` in it on
a folder, and imports an .npy file from outside of it. Half way the server is ended and started again; the import
goes on. It waits until all is indexed and compacted, searches, and prints the times, the answers with 429, the
most that the server held (anonymous memory: mapped files can be taken back), and whether the kernel killed it,
which is a failure. `--restart kill` ends the server by SIGKILL, and `--restart no` not at all.

Needs Linux and Python 3, and nothing else.
"""

import argparse
import array
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
COLLECTION = "bench"
START_SECONDS_MAX = 120
# Nothing has changed and nothing is under way for so long: it is compacted.
QUIET_SECONDS = 25
SETTLE_SECONDS_MAX = 3600
SEARCH_SECONDS_MAX = 60


class Cgroup:
    """A memory cgroup of our own."""

    def __init__(self, name, limit):
        first = Path("/sys/fs/cgroup/memory")
        self.is_v1 = (first / "memory.limit_in_bytes").exists()
        self.path = (first if self.is_v1 else Path("/sys/fs/cgroup")) / name
        self.path.mkdir()
        self.write("memory.limit_in_bytes" if self.is_v1 else "memory.max", limit)
        if not self.is_v1:
            self.write("memory.swap.max", 0)

    def write(self, file, value):
        (self.path / file).write_text(str(value))

    def enter(self):
        self.write("cgroup.procs", os.getpid())

    def field(self, file, name):
        for line in (self.path / file).read_text().splitlines():
            if line.startswith(name + " "):
                return int(line.split()[1])
        return 0

    def kills(self):
        return self.field("memory.oom_control" if self.is_v1 else "memory.events", "oom_kill")

    def reclaims(self):
        """How often memory had to be taken back because the limit was reached."""
        if self.is_v1:
            return int((self.path / "memory.failcnt").read_text())
        return self.field("memory.events", "max")

    def remove(self):
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.1)


class Server:
    def __init__(self, brainy, cgroup, folder, port, settings):
        self.log = open(Path(folder) / "log", "a")
        command = [brainy, "serve", "--role", "hybrid", "--store", f"{folder}/store",
                   "--listen", f"127.0.0.1:{port}"]
        for setting in settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=self.log, preexec_fn=cgroup.enter)
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path, body=None, timeout=60):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.base + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read().decode()

    def wait(self):
        until = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                return self.get("/health")
            except (OSError, urllib.error.URLError):
                if self.process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def metrics(self):
        found = {}
        for line in self.get("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def anonymous(self):
        try:
            for line in open(f"/proc/{self.process.pid}/status"):
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) << 10
        except OSError:
            pass
        return 0


class Watch(threading.Thread):
    """Looks at the server all the time; the server may be another one after a while."""

    def __init__(self, server, trace):
        super().__init__(daemon=True)
        self.server, self.trace = server, trace
        self.peak, self.turned_away, self.before = 0, 0, 0
        self.started = time.monotonic()
        self.done = threading.Event()

    def run(self):
        looked = 0.0
        while not self.done.wait(0.05):
            anonymous = self.server.anonymous()
            self.peak = max(self.peak, anonymous)
            now = time.monotonic()
            if now - looked < 5:
                continue
            looked = now
            try:
                metrics = self.server.metrics()
            except (OSError, urllib.error.URLError):
                continue
            self.before = sum(value for name, value in metrics.items()
                              if name.startswith("brainy_http_requests_total") and '"429"' in name)
            if self.trace:
                tail = metrics.get("brainy_tail_bytes", 0)
                running = [name.split('"')[1] for name, value in metrics.items()
                           if name.startswith("brainy_upkeep_running") and value]
                print(f"    {now - self.started:6.0f} s: anonymous {anonymous / MIB:5.0f} MiB, tail "
                      f"{tail / MIB:4.0f} MiB, 429s {self.total():5.0f}, {', '.join(running)}", flush=True)

    def total(self):
        return self.turned_away + self.before

    def goes_on_with(self, server):
        self.turned_away, self.before = self.total(), 0
        self.server = server


def write_npy(path, rows, dimensions):
    """Rows that no codec makes small: windows of noise, each at another place and of another length."""
    values = random.Random(1)
    noise = array.array("f", (values.gauss(0, 1) for _ in range(2_000_003)))
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        for _ in range(rows):
            start = values.randrange(len(noise) - dimensions)
            row = noise[start:start + dimensions]
            row[values.randrange(dimensions)] = values.random()
            row.tofile(file)
    return noise


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def settled(server):
    """Seconds until all is indexed, and until it is compacted, from now on."""
    start = time.monotonic()
    indexed = changed = None
    state = ()
    while True:
        if server.process.poll() is not None or time.monotonic() - start > SETTLE_SECONDS_MAX:
            return indexed, None
        now = time.monotonic()
        try:
            metrics = server.metrics()
            stats = json.loads(server.get(f"/v1/collections/{COLLECTION}/stats"))
        except (OSError, urllib.error.URLError):
            time.sleep(1)
            continue
        running = sum(value for name, value in metrics.items() if name.startswith("brainy_upkeep_running"))
        if indexed is None and stats["indexedVersion"] >= stats["version"]:
            indexed = now - start
        look = tuple(metrics.get(f"brainy_{name}_total") for name in ("index_passes", "compactions"))
        if look != state or running or indexed is None:
            state, changed = look, now
        if indexed is not None and now - changed > QUIET_SECONDS:
            return indexed, changed - start
        time.sleep(0.5)


def run(arguments, npy, noise, limit_mib):
    brainy = arguments.brainy
    cgroup = Cgroup(f"brainy-memory-{os.getpid()}-{limit_mib}", limit_mib * MIB)
    folder = tempfile.TemporaryDirectory(dir=arguments.folder)
    port = free_port()
    start_server = lambda: Server(brainy, cgroup, folder.name, port, arguments.set)
    server = start_server()
    failed = []
    importing = None
    try:
        server.wait()
        watch = Watch(server, arguments.trace)
        watch.start()
        start = time.monotonic()
        importing = subprocess.Popen(
            [brainy, "import", "--url", server.base, "--dimensions", str(arguments.dimensions),
             "--metric", "euclidean", "-c", COLLECTION, "--json", str(npy)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        halfway = arguments.restart == "no"
        while importing.poll() is None:
            if server.process.poll() is not None:
                failed.append(f"the server ended: {server.process.returncode}")
                break
            time.sleep(0.5)
            if halfway:
                continue
            try:
                stats = json.loads(server.get(f"/v1/collections/{COLLECTION}/stats"))
            except (OSError, urllib.error.URLError):
                continue
            if stats["vectorCount"] >= arguments.rows // 2:
                halfway = True
                how = signal.SIGKILL if arguments.restart == "kill" else signal.SIGTERM
                server.process.send_signal(how)
                server.process.wait()
                began = time.monotonic()
                server = start_server()
                server.wait()
                watch.goes_on_with(server)
                print(f"  restarted after {began - start:.0f} s, there again {time.monotonic() - began:.1f} s "
                      "later", flush=True)
        if failed:
            importing.kill()
        said = importing.communicate()[0]
        acknowledged = time.monotonic() - start
        if importing.returncode:
            failed.append(f"the import failed: {said.strip()[-500:]}")
        print(f"  acknowledged after {acknowledged:.0f} s", flush=True)
        if not failed:
            indexed, compacted = settled(server)
            if compacted is None:
                failed.append("it was never all indexed and compacted")
            else:
                print(f"  indexed after {acknowledged + indexed:.0f} s, compacted after "
                      f"{acknowledged + compacted:.0f} s", flush=True)
        if not failed:
            count = json.loads(server.get(f"/v1/collections/{COLLECTION}/stats"))["vectorCount"]
            if count != arguments.rows:
                failed.append(f"{count} of {arguments.rows} rows are there")
            took = []
            for at in range(200):
                body = {"vector": noise[at * 999:at * 999 + arguments.dimensions].tolist(), "k": 10}
                began = time.monotonic()
                answer = json.loads(server.get(f"/v1/collections/{COLLECTION}/search", body))
                took.append(1e3 * (time.monotonic() - began))
                if sum(took) > 1e3 * SEARCH_SECONDS_MAX:
                    break
                if len(answer["results"]) != 10:
                    failed.append(f"a search found {len(answer['results'])}")
                    break
            took.sort()
            print(f"  {len(took)} searches: median {took[len(took) // 2]:.1f} ms, slowest {took[-1]:.0f} ms")
        watch.done.set()
        watch.join()
        print(f"  at most {watch.peak / MIB:.0f} MiB anonymous; {watch.total():.0f} answers with 429; limit "
              f"reached {cgroup.reclaims()} times; killed {cgroup.kills()} times", flush=True)
        if cgroup.kills():
            failed.append("killed by the kernel")
    finally:
        for process in (importing, server.process):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        if failed:
            print(open(Path(folder.name) / "log").read()[-2_000:])
        cgroup.remove()
        folder.cleanup()
    for reason in failed:
        print(f"  FAILED: {reason}")
    return not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--brainy", default=str(ROOT / "target" / "release" / "brainy"))
    parser.add_argument("--limit-mib", default=[1200, 512],
                        type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--restart", choices=["stop", "kill", "no"], default="stop")
    parser.add_argument("--folder", help="where data is kept while it runs")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="for the server")
    parser.add_argument("--trace", action="store_true", help="print what it holds every five seconds")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as data:
        npy = Path(data) / "rows.npy"
        noise = write_npy(npy, arguments.rows, arguments.dimensions)
        good = True
        for limit_mib in arguments.limit_mib:
            print(f"{arguments.rows} x {arguments.dimensions} in {limit_mib} MiB:", flush=True)
            good &= run(arguments, npy, noise, limit_mib)
    sys.exit(not good)


if __name__ == "__main__":
    main()
