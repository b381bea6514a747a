"""What it costs until rows are written, indexed and compacted.

    benches/serve.py ingest-to-compacted [--rows 200000] [--set sift-100k] [--rounds 1]

Rows beyond the data set are its rows with a little noise. One client writes them in batches, then
waits until all is indexed, and until the collection's stats have stayed the same for 10 seconds.

    write amplification   bytes written to the store / bytes of the vectors (4 each number), ids and
                          metadata as they were sent
    space                 bytes of the store's folder in the end / the same
    PUTs/M                PUTs, conditional ones included, for a million vectors
    RSS, own RSS          the highest resident memory of the server, and without the pages of mapped
                          files, looked at 20 times a second

What could mislead: a file system is no bucket, so the PUTs are counted but their time is not that
of S3. What is collected as garbage only after a grace period (gc_grace_ms) is still in the space.
"""

import json
import tempfile
import threading
from pathlib import Path

from kernel_py.peers import folder_bytes, rectangle

from . import data
from .report import Table, finish, progress
from .server import Server, version, wait_until_indexed, wait_until_settled
from .wrk import search_bodies

DEFAULTS = {"rows": 200_000, "rounds": 1}
LOOK_SECONDS = 0.05
QUERIES_MAX = 200


def options(command):
    command.add_argument("--batch", type=int, default=1_000, metavar="N")
    command.add_argument("--partitions", type=int, default=1, metavar="N")
    command.add_argument("--set", choices=list(data.METRICS), default=data.MINILM)


class Highest:
    """The highest memory of a server while this lasts."""

    def __init__(self, server):
        self.server, self.over = server, threading.Event()
        self.highest = {"all": 0, "own": 0}
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(LOOK_SECONDS):
            now = self.server.memory()
            self.highest = {kind: max(now[kind], size) for kind, size in self.highest.items()}

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def run(args):
    args.queries = min(args.queries, QUERIES_MAX)
    rows = data.load(args)
    names, metadata = data.ids(range(rows.count)), data.metadata(rows)
    live = rows.base.nbytes + sum(len(name) for name in names)
    live += sum(len(json.dumps(one)) for one in metadata)
    table = Table(
        f"ingest to compacted: {rows.count} x {rows.dimensions}, {live / 1e6:.0f} MB, "
        f"{args.partitions} partitions, batches of {args.batch}",
        8,
        {"write s": ".1f", "indexed s": ".1f", "compacted s": ".1f", "amplification": ".2f",
         "space": ".2f", "PUTs/M": ".0f", "GETs/M": ".0f", "RSS MB": ".0f", "own RSS MB": ".0f",
         "recall@10": ".4f"},
    )
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder:
            table.add("brainy", one_round(args, rows, names, metadata, live, folder))
        progress(f"round {number + 1} of {args.rounds}")
    table.notes.append("indexed s and compacted s count from the first write")
    finish(args, [table], {"brainy": version()})


def one_round(args, rows, names, metadata, live, folder):
    with Server(folder) as server:
        shape = {"dimensions": rows.dimensions, "metric": rows.metric}
        server.create(partitionCount=args.partitions, **shape)
        before = server.store_requests()
        with Highest(server) as memory:
            seconds = server.upload(names, rows.base, metadata, args.batch)
            server.see_all(dimensions=rows.dimensions)
            indexed = wait_until_indexed(server, args)
            compacted = wait_until_settled(server, args)
        after = server.store_requests()
        spent = {kind: after[kind] - before[kind] for kind in after}
        found = rectangle(list(server.found(search_bodies(rows.queries))))
        space = folder_bytes(Path(folder) / "store")
        stats = server.stats()
    progress(f"the stats in the end: {json.dumps(stats)}")
    figures = {
        "write s": seconds,
        "amplification": spent["written"] / live,
        "space": space / live,
        "PUTs/M": spent["put"] * 1e6 / rows.count,
        "GETs/M": spent["get"] * 1e6 / rows.count,
        "RSS MB": memory.highest["all"] / 1e6,
        "own RSS MB": memory.highest["own"] / 1e6,
        "recall@10": data.recall(rows, found, rows.truth),
    }
    if indexed is not None:
        figures["indexed s"] = seconds + indexed
        figures["compacted s"] = seconds + indexed + compacted
    return figures
