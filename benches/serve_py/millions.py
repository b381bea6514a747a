"""Millions of rows on one instance: how long until they are served, in how much memory, how fast.

    benches/serve.py millions [--rows 4000000] [--limit-gb 20] [--seconds 10]

The rows are made from sift-100k, none is a copy: each lies between a descriptor and another one of its
cell (1,000 cells, around random descriptors), at most half way, with noise on every number, and is
rounded to bytes. The queries are made in the same way, and are none of the rows; what they should find is computed
exactly. With --other-photos they are made of the set's queries, which are of other photos, and are farther from all
rows than rows are from each other. `brainy import` sends the rows as an .npy file over HTTP to a hybrid on a folder; the program then
waits until all is indexed, and until nothing has been rewritten for 25 seconds.

    acknowledged, indexed, compacted   seconds from the beginning of the import
    peak, at rest                      resident memory, looked at 20 times a second: `own` is without the
                                       pages of mapped files, which can be taken back at any time
    segments                           how many, their bytes, and resident memory at rest beside those bytes

With --limit-gb the server runs in a memory cgroup of that size (as root, on Linux; mapped files count) and
plans with it.

What could mislead: the load generator and the server share the cores. The rows are less spread than so many
real descriptors would be, so that queries of other photos are harder here than they are there.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
from kernel_py.data import Rows, array
from kernel_py.peers import rectangle
from memory import Cgroup

from . import data
from .compacted import Highest
from .report import Table, finish, progress
from .server import BINARY, COLLECTION, Refused, Server, search_path, version, wait
from .wrk import Wrk, search_bodies

DEFAULTS = {"rows": 4_000_000, "rounds": 1}
CELLS = 1_000
# Of the noise on each number, which is 0 to 255.
NOISE = 4.0
MADE_AT_A_TIME = 500_000
QUIET_SECONDS = 25
QUERIES_MAX = 500


def options(command):
    command.add_argument("--limit-gb", type=float, metavar="N", help="of memory for the server")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                         help="for the server")
    command.add_argument("--keep", type=Path, metavar="FOLDER",
                         help="for the store, which stays; where it is there, only searches are measured")
    command.add_argument("--other-photos", action="store_true", help="make the queries of the set's queries")
    command.add_argument("--npy", type=Path, help="where the rows are kept from run to run")
    command.add_argument("--connections", type=int, default=8, metavar="N", help="for the throughput")


class Cells:
    """The descriptors of a set, each in the cell of the nearest of some of them."""

    def __init__(self, base, random):
        self.base, self.random = base, random
        self.centres = base[random.choice(len(base), CELLS, replace=False)]
        of_row = self.of(base)
        self.order = numpy.argsort(of_row, kind="stable")
        self.starts = numpy.searchsorted(of_row[self.order], numpy.arange(CELLS + 1))

    def of(self, vectors):
        """The number of each vector's cell."""
        halves = (self.centres**2).sum(axis=1) / 2
        parts = numpy.array_split(vectors, max(len(vectors) // 1_000, 1))
        return numpy.concatenate([(part @ self.centres.T - halves).argmax(axis=1) for part in parts])

    def between(self, vectors, cells):
        """Vectors that lie between these, of these cells, and others of the cells."""
        first, size = self.starts[cells], self.starts[cells + 1] - self.starts[cells]
        count = len(vectors)
        other = self.order[first + (self.random.random(count) * size).astype(numpy.int64)]
        share = 0.5 * self.random.random((count, 1), dtype=numpy.float32)
        made = vectors + share * (self.base[other] - vectors)
        made += NOISE * self.random.standard_normal(made.shape, dtype=numpy.float32)
        return numpy.rint(made).clip(0, 255)


def make(base, path, rows):
    """Writes the rows as bytes."""
    random = numpy.random.default_rng(7)
    cells = Cells(base, random)
    of_base = cells.of(base)
    made = numpy.lib.format.open_memmap(path, "w+", numpy.uint8, (rows, base.shape[1]))
    for start in range(0, rows, MADE_AT_A_TIME):
        one = random.integers(len(base), size=min(MADE_AT_A_TIME, rows - start))
        made[start : start + len(one)] = cells.between(base[one], of_base[one])
    made.flush()
    return made


def nearest(made, queries, count):
    """The row numbers of the `count` nearest, exactly, block after block."""
    best = numpy.empty((len(queries), 0), dtype=numpy.int64)
    distances = numpy.empty((len(queries), 0), dtype=numpy.float32)
    for start in range(0, len(made), MADE_AT_A_TIME):
        block = made[start : start + MADE_AT_A_TIME].astype(numpy.float32)
        found = (block**2).sum(axis=1) - 2 * (queries @ block.T)
        near = numpy.argpartition(found, count, axis=1)[:, :count]
        best = numpy.concatenate([best, near + start], axis=1)
        distances = numpy.concatenate([distances, numpy.take_along_axis(found, near, 1)], axis=1)
        keep = numpy.argsort(distances, axis=1, kind="stable")[:, :count]
        best, distances = (numpy.take_along_axis(one, keep, 1) for one in (best, distances))
    return best


def bring(server, npy, dimensions):
    command = [BINARY, "import", "--url", server.url, "--collection", COLLECTION, "--dimensions",
               str(dimensions), "--metric", "euclidean", "--json", npy]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def run(args):
    queries = array(args.data / data.SIFT, "queries")[: min(args.queries, QUERIES_MAX)]
    base = array(args.data / data.SIFT, "base").astype(numpy.float32)
    random = numpy.random.default_rng(8)
    if not args.other_photos:
        queries = base[random.choice(len(base), len(queries), replace=False)]
    cells, queries = Cells(base, random), queries.astype(numpy.float32)
    queries = numpy.ascontiguousarray(cells.between(queries, cells.of(queries)), dtype=numpy.float32)
    with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder:
        npy = args.npy or Path(folder) / "rows.npy"
        if npy.exists():
            made = numpy.load(npy, mmap_mode="r")
        else:
            made = make(base, npy, args.rows)
        args.rows = len(made)
        progress(f"{args.rows} rows are made")
        truth = nearest(made, queries, 10)
        progress("the nearest are known")
        table = Table(
            f"millions: {args.rows} x {made.shape[1]}, {len(queries)} queries", 8,
            {"acknowledged s": ".0f", "indexed s": ".0f", "compacted s": ".0f", "peak GB": ".1f",
             "own": ".1f", "at rest GB": ".2f", "own at rest": ".2f", "segments": ".0f",
             "their GB": ".2f", "ratio": ".2f", "recall@10": ".4f", "p50 us": ".0f", "p99 us": ".0f",
             "QPS, 1": ".0f", f"QPS, {args.connections}": ".0f"},
        )
        for number in range(args.rounds):
            table.add("brainy", one_round(args, npy, made, queries, truth))
            progress(f"round {number + 1} of {args.rounds}")
        finish(args, [table], {"brainy": version()})


def recall(made, queries, found, truth):
    """As for other sets, without all rows in memory: only those that were found or should have been."""
    needed = numpy.unique(numpy.concatenate([truth, found], axis=None))
    needed = needed[needed >= 0]
    found = numpy.where(found < 0, -1, numpy.searchsorted(needed, found))
    truth = numpy.searchsorted(needed, truth)
    return data.recall(Rows(None, "euclidean", made[needed], queries, truth), found, truth)


def timed(work):
    started = time.monotonic()
    work()
    return time.monotonic() - started


def one_round(args, npy, made, queries, truth):
    cgroup = None
    if args.limit_gb:
        cgroup = Cgroup(f"brainy-millions-{id(args)}", int(args.limit_gb * 1e9))
    try:
        with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder:
            folder = args.keep or folder
            Path(folder).mkdir(parents=True, exist_ok=True)
            with Server(folder, settings=args.set, before=cgroup and cgroup.enter) as server:
                figures = measured(args, server, folder, npy, made, queries, truth)
        if cgroup and cgroup.kills():
            raise SystemExit("the kernel killed it")
    finally:
        if cgroup:
            cgroup.remove()
    return figures


def is_there(server):
    try:
        return server.stats()["vectorCount"] > 0
    except Refused:
        return False


def measured(args, server, folder, npy, made, queries, truth):
    acknowledged = 0
    with Highest(server) as memory:
        if not is_there(server):
            acknowledged = timed(lambda: bring(server, npy, made.shape[1]))
        progress(f"acknowledged after {acknowledged:.0f} s")
        indexed = wait(server, args, COLLECTION, 0)
        compacted = wait(server, args, COLLECTION, QUIET_SECONDS)
    rest = server.memory()
    stats = server.stats()
    progress(f"the stats in the end: {json.dumps(stats)}")
    wrk = Wrk(folder)
    bodies = list(search_bodies(queries))
    found = rectangle(list(server.found(bodies)))
    url, searches = server.url + search_path(), wrk.searches(bodies)
    one = wrk.run(url, searches, 1, args.seconds)
    many = wrk.run(url, searches, args.connections, args.seconds)
    after = server.memory()
    progress(f"after the searches: {after}, at rest {rest}")
    return {
        "acknowledged s": acknowledged,
        "indexed s": acknowledged + indexed,
        "compacted s": acknowledged + indexed + compacted,
        "peak GB": memory.highest["all"] / 1e9,
        "own": memory.highest["own"] / 1e9,
        "at rest GB": after["all"] / 1e9,
        "own at rest": after["own"] / 1e9,
        "segments": stats["segments"],
        "their GB": stats["segmentBytes"] / 1e9,
        "ratio": after["all"] / stats["segmentBytes"],
        "recall@10": recall(made, queries, found, truth),
        "p50 us": one["p50"], "p99 us": one["p99"], "QPS, 1": one["qps"],
        f"QPS, {args.connections}": many["qps"],
    }
