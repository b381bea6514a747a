"""Latency, throughput, recall and ingest of Brainy against Chroma's server and LanceDB.

    benches/serve.py peers [--engines brainy,chroma,lancedb] [--rounds 3] [--ingest-rounds 3]

First ingest: in every round each engine starts empty on local disk and gets the same rows in the same
batches from one client that waits for each acknowledgement. "index s" is what passes afterwards until
all is indexed: for Brainy and Chroma, which index while they ingest, the rest of that (for Chroma
its first search, which waits for it); for LanceDB the call that builds the index.

Then the instances of the last round are searched, in interleaved rounds: one connection for p50 and
p99, --connections for the throughput. The peers are measured at their defaults, and at the first
width that finds as much as Brainy does ("equal"), or else the widest.

What could mislead: LanceDB runs in this process: no HTTP and no server, but Python's cost of each call,
and its threads share Python's lock. Chroma and LanceDB flush to the disk as they do by default, which
need not be at every write as for Brainy. Chroma's server starts again whenever its width changes,
because only then it takes effect, so its caches are as warm as a second of searches makes them. The
floor is of Brainy's server, and about the load generator itself.
"""

import tempfile
from pathlib import Path

from kernel_py.peers import rectangle

from . import data
from .engines import BASE64, ENGINES
from .report import Table, finish, progress
from .wrk import Wrk

DEFAULTS = {"rows": 50_000, "rounds": 3}
# Of recall: as much as the order of equal distances may make.
SLACK = 0.0005


def options(command):
    command.add_argument("--engines", type=engines, default=list(ENGINES),
                         help=f"some of {','.join(ENGINES)}")
    command.add_argument("--batch", type=int, default=1_000, metavar="N")
    command.add_argument("--ingest-rounds", type=int, default=3, metavar="N")
    command.add_argument("--connections", type=int, default=8, metavar="N",
                         help="for the throughput")
    command.add_argument("--recall", type=float,
                         help="what the peers are to reach, instead of what Brainy does")


def engines(text):
    names = text.split(",")
    if not set(names) <= set(ENGINES):
        raise ValueError(text)
    return [name for name in ENGINES if name in names]


def run(args):
    rows = data.load(args)
    metadata = data.metadata(rows)
    with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder:
        running = []
        try:
            ingest = ingest_rounds(args, rows, metadata, folder, running)
            searches = search_rounds(args, rows, running)
            versions = {engine.name: engine.version for engine in running}
        finally:
            for engine in running:
                engine.stop()
    finish(args, [ingest, searches], versions)


def ingest_rounds(args, rows, metadata, folder, running):
    """Leaves the engines of the last round running."""
    wrk = Wrk(folder)
    table = Table(
        f"ingest: {rows.count} x {data.DIMENSIONS} in batches of {args.batch}, one client",
        12,
        {"vectors/s": ".0f", "index s": ".2f", "vectors/s with index": ".0f"},
    )
    for number in range(args.ingest_rounds):
        fresh = [ENGINES[name](wrk) for name in args.engines]
        for engine in fresh if number % 2 == 0 else reversed(fresh):
            place = Path(folder) / f"{engine.name}-{number}"
            place.mkdir()
            running.append(engine)
            engine.begin(place)
            seconds = engine.ingest(rows, metadata, args.batch)
            index = engine.index(args)
            progress(f"ingest round {number + 1}: {engine.name} {rows.count / seconds:.0f}/s")
            figures = {"vectors/s": rows.count / seconds}
            if index is not None:
                figures["index s"] = index
                figures["vectors/s with index"] = rows.count / (seconds + index)
            table.add(engine.name, figures)
            if number < args.ingest_rounds - 1:
                running.remove(engine)
                engine.stop()
    running.sort(key=fresh.index)
    return table


def search_rounds(args, rows, running):
    table = Table(
        f"search: {rows.count} x {data.DIMENSIONS}, cosine, k = {data.K}, {len(rows.queries)} queries",
        46,
        {"recall@10": ".4f", "p50 us": ".0f", "p99 us": ".0f", "QPS, 1": ".0f",
         f"QPS, {args.connections}": ".0f", f"p99 us, {args.connections}": ".0f"},
    )
    lines, target = [], args.recall
    for engine in running:
        engine.prepare(rows.queries)
        default = recall(engine, None, rows)
        lines.append((engine, None, engine.name, default))
        if not engine.widths:
            lines.append((engine, BASE64, f"{engine.name}, vectors in base64", default))
            target = target or default
            continue
        if target is not None:
            width, reached = equal(engine, target, rows)
            kind = "equal" if reached >= target - SLACK else "widest"
            name = f"{engine.name}, {kind} ({engine.width_name} {width})"
            lines.append((engine, width, name, reached))
    for number in range(args.rounds):
        for engine, width, name, reached in lines if number % 2 == 0 else reversed(lines):
            engine.use(width)
            measure(table, args, engine, name, reached)
            progress(f"search round {number + 1}: {name}")
        if hasattr(running[0], "floor"):
            one, many = running[0].floor(1), running[0].floor(args.connections)
            add(table, args, "floor (GET /health/live)", one, many, {})
    return table


def measure(table, args, engine, name, reached):
    one = engine.measure(1, args.seconds)
    many = engine.measure(args.connections, args.seconds)
    add(table, args, name, one, many, {"recall@10": reached})


def add(table, args, name, one, many, more):
    figures = {"p50 us": one["p50"], "p99 us": one["p99"], "QPS, 1": one["qps"],
               f"QPS, {args.connections}": many["qps"], f"p99 us, {args.connections}": many["p99"]}
    table.add(name, {**figures, **more})


def recall(engine, width, rows):
    engine.use(width)
    found = data.recall(rows, rectangle(engine.found()), rows.truth)
    progress(f"{engine.name}, width {width or 'as by default'}: recall {found:.4f}")
    return found


def equal(engine, target, rows):
    """The first width that finds as much as the target, and what it finds."""
    best = (None, 0.0)
    for width in engine.widths:
        reached = recall(engine, width, rows)
        if reached > best[1]:
            best = (width, reached)
        if reached >= target - SLACK:
            break
    return best
