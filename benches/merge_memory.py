#!/usr/bin/env python3
"""How much memory does a merge take, or a split, that is larger than the memory there is?

    benches/merge_memory.py [--gb 3] [--limit-mib 1500] [--dimensions 128] [--npy FILE] [--brainy target/release/brainy]

Builds a store in a folder without a limit: segments of --gb in all, of noise, or of the rows of an .npy file (noise of many
dimensions takes long to index). Then, each on a copy of it and in a memory
cgroup of --limit-mib (v1 or v2, so it runs as root, on Linux):

    merge    an instance makes one of them, which `compaction_max_bytes` and `segment_max_bytes` allow
    split    an instance with the settings that such a container gives splits the partition into what suits it

It prints the seconds, the most anonymous memory (mapped files can be taken back), what came of it, and whether the
kernel killed it, which is a failure.

Needs Linux and Python 3, and nothing else.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import COLLECTION, MIB, ROOT, Cgroup, Server, free_port, write_npy

MERGED_SECONDS_MAX = 3_600


class Unlimited:
    def enter(self):
        pass


def segments(server):
    stats = json.loads(server.get(f"/v1/collections/{COLLECTION}/stats"))
    return stats["segments"], stats["segmentBytes"], stats["vectorCount"]


def head_of(source, npy, rows, dimensions):
    """Copies the first rows of an .npy file; how many there are."""
    with open(source, "rb") as file:
        start = file.read(10)
        length = int.from_bytes(start[8:10], "little")
        header = ast.literal_eval(file.read(length).decode())
        width = int(header["descr"][-1]) * dimensions
        rows = min(rows, header["shape"][0])
        if header["shape"][1] != dimensions or start[6] != 1:
            sys.exit(f"{source} has rows of {header['shape'][1]} numbers, not of --dimensions")
        header["shape"] = (rows, dimensions)
        text = repr(header).encode()
        text += b" " * (-(len(text) + 11) % 64) + b"\n"
        with open(npy, "wb") as into:
            into.write(start[:8] + len(text).to_bytes(2, "little") + text)
            for _ in range(rows):
                into.write(file.read(width))
    return rows


def is_indexed(server):
    stats = json.loads(server.get(f"/v1/collections/{COLLECTION}/stats"))
    return stats["indexedVersion"] >= stats["version"]


def build(arguments, folder):
    """A store with several segments, none of which is merged."""
    npy = Path(folder) / "rows.npy"
    per_row = 5.4 * arguments.dimensions + 250
    rows = int(arguments.gb * 1e9 / per_row)
    if arguments.npy:
        rows = head_of(arguments.npy, npy, rows, arguments.dimensions)
    else:
        write_npy(npy, rows, arguments.dimensions)
    settings = [f"partition_max_vectors={10 * rows}", "segment_max_bytes=5000000000"]
    server = Server(arguments.brainy, Unlimited(), folder, free_port(), settings)
    try:
        server.wait()
        subprocess.run([arguments.brainy, "import", "--url", server.base, "--dimensions",
                        str(arguments.dimensions), "--metric", "euclidean", "-c", COLLECTION, str(npy)],
                       check=True, stdout=subprocess.DEVNULL)
        while not is_indexed(server):
            time.sleep(0.2)
        # What was behind is not merged at once.
        print(f"{rows} x {arguments.dimensions}: {segments(server)[0]} segments of "
              f"{segments(server)[1] / 1e9:.2f} GB", flush=True)
    finally:
        server.process.terminate()
        server.process.wait()
    npy.unlink()


def limited(arguments, folder, name, settings, work):
    """What `work` says of a server in a small container, with the most that the server held."""
    cgroup = Cgroup(f"brainy-merge-{os.getpid()}-{name}", arguments.limit_mib * MIB)
    server = Server(arguments.brainy, cgroup, folder, free_port(), settings + arguments.set)
    peak, began = 0, time.monotonic()
    try:
        server.wait()
        before = segments(server)
        busy = work(server)
        while busy() and server.process.poll() is None:
            peak = max(peak, server.anonymous())
            time.sleep(0.05)
            if time.monotonic() - began > MERGED_SECONDS_MAX:
                break
        took = time.monotonic() - began
        ended = server.process.poll()
        after = segments(server) if ended is None else None
        print(f"  {name}: {took:.0f} s, at most {peak / MIB:.0f} MiB anonymous, limit reached "
              f"{cgroup.reclaims()} times, killed {cgroup.kills()} times; segments {before[0]} -> "
              f"{after and after[0]}, rows {before[2]} -> {after and after[2]}", flush=True)
        return ended is None and not cgroup.kills() and after[2] == before[2] and after[0] != before[0]
    finally:
        server.process.kill()
        server.process.wait()
        cgroup.remove()


def merge(server):
    """Waits until one segment is left."""

    def busy():
        try:
            return segments(server)[0] > 1
        except OSError:
            return True

    return busy


def split(server):
    """Waits until there is one split, and nothing is under way."""
    quiet = [0.0]

    def busy():
        metrics = server.metrics()
        running = any(value for name, value in metrics.items() if name.startswith("brainy_upkeep_running"))
        done = metrics.get("brainy_compactions_total", 0)
        if running or not done:
            quiet[0] = time.monotonic()
        return time.monotonic() - quiet[0] < 5

    return busy


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--brainy", default=str(ROOT / "target" / "release" / "brainy"))
    parser.add_argument("--gb", type=float, default=3.0)
    parser.add_argument("--limit-mib", type=int, default=1_500)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--npy", help="rows to take instead of noise")
    parser.add_argument("--folder", help="where data is kept while it runs")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="for the server")
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(dir=arguments.folder) as data:
        source = Path(data) / "source"
        source.mkdir()
        build(arguments, source)
        whole = f"compaction_max_bytes={int(2 * arguments.gb * 1e9)}"
        many = "partition_max_vectors=1000000000"
        for name, settings, work in [
            ("merge", [whole, many, "segment_max_bytes=5000000000"], merge),
            ("split", [many], split),
        ]:
            copy = Path(data) / name
            shutil.copytree(source, copy)
            good &= limited(arguments, copy, name, settings, work)
            shutil.rmtree(copy)
    sys.exit(not good)


if __name__ == "__main__":
    main()
