"""Upserts, deletes and searches at once; every answer is checked against a model outside.

    benches/serve.py churn [--rounds 3] [--share 0.2] [--seconds 30]

In every round plain searches of one connection are measured three times: alone; beside the checking
searches; beside those and two writers, which upsert and delete --share of all ids meanwhile, evenly
over the --seconds, while the index and compaction run.

The model is a dictionary: what each id was (its vector and metadata, or nothing) from which version on,
as the writes' answers said. A search names its version too, so that its answer can be compared with
exactly that state once the round is over. A violation is a row that was deleted or replaced at that
version, a row twice, a distance that differs by more than 1e-3 from that of the vector of that
version, metadata of another write, a row that the filter leaves out, fewer rows than asked for, and a
version older than a write that had been acknowledged when a strong search began, or than an earlier
answer on the same connection. (Before anything else, answers with one of these faults each are given to
the model, which has to notice them all.) In the end an export must be the model, number for number.

What could mislead: the checks and writers are clients on the same cores, which is what the second
measurement is for. "found" is not a violation: whether a search with the vector of a row that was
just written finds the row. It is what a graph may miss. The plain searches themselves are not checked.
"""

import random
import tempfile
import threading
import time

import numpy
from kernel_py.data import K

from . import churn_proof, data
from .churn_model import BUCKETS, Model
from .report import Table, finish, progress
from .server import (
    COLLECTION,
    Client,
    Server,
    patiently,
    search_path,
    upsert,
    version,
    wait_until_settled,
)
from .wrk import Wrk, search_bodies

DEFAULTS = {"rows": 50_000, "rounds": 3, "seconds": 30}
WRITERS = 2
# Of the writes; the rest are upserts, also of ids that were deleted before.
DELETED_SHARE = 0.2
PAUSE_SECONDS = 0.02
LOAD_BATCH = 1_000


def options(command):
    command.add_argument("--share", type=float, default=0.2, help="of the ids, written in a round")
    command.add_argument("--batch", type=int, default=100, metavar="N", help="ids in each write")


def run(args):
    churn_proof.prove()
    rows = data.load(args, with_truth=False)
    model = Model(rows)
    table = Table(
        f"churn: {rows.count} x {data.DIMENSIONS}, {args.share:.0%} of the ids in {args.seconds} s, "
        "plain searches of one connection",
        22,
        {"p50 us": ".0f", "p99 us": ".0f", "QPS": ".0f", "writes/s": ".0f", "checks": ".0f",
         "found": ".4f", "violations": ".0f"},
    )
    with tempfile.TemporaryDirectory(prefix="brainy-bench-") as folder, Server(folder) as server:
        server.create()
        load(server, model)
        wrk = Wrk(folder)
        searches = wrk.searches(search_bodies(rows.queries))
        for number in range(args.rounds):
            # What the round before left to do is not of this one.
            wait_until_settled(server, args)
            for name, checking, writers in (
                ("alone", False, 0), ("with checks", True, 0), ("with checks and churn", True, WRITERS)
            ):
                phase = Phase(server, model, args, seed=number)
                plain = phase.run(wrk, searches, checking, writers)
                table.add(name, {"p50 us": plain["p50"], "p99 us": plain["p99"],
                                 "QPS": plain["qps"], **phase.figures()})
            progress(f"round {number + 1} of {args.rounds}, violations: {sum(model.faults.values())}")
        server.see_all()
        model.compare_export(server.url)
    for kind, count in sorted(model.faults.items()):
        table.notes.append(f"VIOLATION: {kind}, {count} times; the first: {model.examples[kind]}")
    total = sum(model.faults.values())
    table.notes.append(f"violations, with those of the export of {len(model.live())} rows: {total}")
    finish(args, [table], {"brainy": version()})
    return 1 if total else 0


def load(server, model):
    for first in range(0, model.rows.count, LOAD_BATCH):
        changes = [model.initial(row) for row in range(model.rows.count)[first : first + LOAD_BATCH]]
        write(server.client, model, changes)
    server.see_all()


def write(client, model, changes):
    """Upserts what has a vector and deletes the rest, and tells the model what was acknowledged."""
    kept = [change for change in changes if change.vector is not None]
    if kept:
        vectors = numpy.stack([change.vector for change in kept])
        answer = upsert(client, [c.id for c in kept], vectors, [c.metadata() for c in kept])
        model.acknowledge(kept, answer["version"])
    gone = [change for change in changes if change.vector is None]
    if gone:
        body = {"ids": [change.id for change in gone]}
        answer = patiently(client, f"/v1/collections/{COLLECTION}/vectors/delete", body)
        model.acknowledge(gone, answer["version"])


class Phase:
    """One measurement of plain searches, with what runs beside it."""

    def __init__(self, server, model, args, seed):
        self.server, self.model, self.args, self.seed = server, model, args, seed
        self.over = threading.Event()
        self.answers, self.written, self.failed = [], 0, []
        self.seconds = 0.0

    def run(self, wrk, searches, checking, writers):
        beside = [threading.Thread(target=self.guarded, args=(self.check,))] if checking else []
        beside += [
            threading.Thread(target=self.guarded, args=(self.churn, place, writers))
            for place in range(writers)
        ]
        url = self.server.url + search_path()
        wrk.run(url, searches, 1, 1, warm=False)
        for thread in beside:
            thread.start()
        try:
            plain = wrk.run(url, searches, 1, self.args.seconds, warm=False)
        finally:
            self.over.set()
            for thread in beside:
                thread.join()
        if self.failed:
            raise self.failed[0]
        self.before = sum(self.model.faults.values())
        self.found = self.model.check(self.answers)
        return plain

    def figures(self):
        if not self.answers:
            return {}
        violations = sum(self.model.faults.values()) - self.before
        figures = {"checks": len(self.answers), "violations": violations}
        if self.found is not None:
            figures["found"] = self.found
        if self.written:
            figures["writes/s"] = self.written / self.seconds
        return figures

    def guarded(self, work, *args):
        try:
            work(*args)
        except Exception as fault:
            # Raised again by `run`: an outcome that nobody knows makes the model useless.
            self.failed.append(fault)

    def churn(self, place, writers):
        """Every writer has ids of its own, so that the order of the writes of an id is known."""
        chooser = random.Random(f"{self.seed}-{place}")
        client = Client(self.server.url)
        own = range(place, self.model.rows.count, writers)
        count = max(round(self.args.share * self.model.rows.count / writers), 1)
        chosen = chooser.sample(own, min(count, len(own)))
        batches = [chosen[at : at + self.args.batch] for at in range(0, len(chosen), self.args.batch)]
        started = time.monotonic()
        for number, batch in enumerate(batches):
            # Evenly over the time of the measurement; what is late is not left out.
            due = started + self.args.seconds * number / len(batches)
            time.sleep(max(due - time.monotonic(), 0))
            changes = [self.change(chooser, row) for row in batch]
            write(client, self.model, changes)
            self.written += len(changes)
        self.seconds = max(self.seconds, time.monotonic() - started)
        client.close()

    def change(self, chooser, row):
        if chooser.random() < DELETED_SHARE:
            return self.model.deletion(row)
        return self.model.replacement(row, chooser)

    def check(self):
        """Searches with what was written last or with a query, strong or not, with a filter or not."""
        chooser = random.Random(self.seed)
        client, number = Client(self.server.url), 0
        while not self.over.is_set():
            target = self.model.latest(chooser) if number % 2 else None
            query = self.model.rows.queries[chooser.randrange(len(self.model.rows.queries))]
            vector = query if target is None else target.vector
            strong = number % 8 < 6
            bucket = chooser.randrange(BUCKETS) if number % 3 == 2 and target is None else None
            body = {"vector": vector.tolist(), "k": K, "consistency": "strong" if strong else "eventual"}
            if bucket is not None:
                body["filter"] = {"bucket": bucket}
            floor = self.model.acknowledged if strong else 0
            answer = client.post(search_path(), body)
            self.answers.append((vector, floor, bucket, target, answer))
            number += 1
            time.sleep(PAUSE_SECONDS)
        client.close()
