"""What the collection should be, kept outside of it: every id's history by version."""

import bisect
import collections
import json
import threading
import urllib.request

import numpy
from kernel_py.data import K

from .data import row_id
from .server import COLLECTION

BUCKETS = 10
DISTANCE_ERROR_MAX = 1e-3
NOISE = 0.05


class Change:
    """One write of one id: its vector (None: deleted) and a number that no other write has."""

    def __init__(self, identifier, vector, stamp):
        self.id, self.vector, self.stamp = identifier, vector, stamp
        self.version = None

    def metadata(self):
        return {"stamp": self.stamp, "bucket": self.stamp % BUCKETS}


class Model:
    def __init__(self, rows):
        self.rows = rows
        self.lock = threading.Lock()
        self.histories = collections.defaultdict(list)
        self.stamp = 0
        self.acknowledged = 0
        self.recent = collections.deque(maxlen=1_000)
        self.faults = collections.Counter()
        self.examples = {}

    # ---- writes

    def initial(self, row):
        return self.change(row, self.rows.base[row])

    def replacement(self, row, chooser):
        """Another row's vector with noise, so that the id is somewhere else afterwards."""
        vector = self.rows.base[chooser.randrange(self.rows.count)].copy()
        noise = numpy.random.default_rng(chooser.randrange(1 << 32))
        vector += NOISE * noise.standard_normal(len(vector), dtype=numpy.float32)
        return self.change(row, vector)

    def deletion(self, row):
        return self.change(row, None)

    def change(self, row, vector):
        with self.lock:
            self.stamp += 1
            return Change(row_id(row), vector, self.stamp)

    def acknowledge(self, changes, version):
        with self.lock:
            for change in changes:
                change.version = version
                self.histories[change.id].append(change)
                if change.vector is not None:
                    self.recent.append(change)
            self.acknowledged = max(self.acknowledged, version)

    def latest(self, chooser):
        """One of the rows that were written last, or None."""
        with self.lock:
            return chooser.choice(self.recent) if self.recent else None

    # ---- what is so

    def at(self, identifier, version):
        """The last change of an id up to a version, or None."""
        history = self.histories.get(identifier, [])
        place = bisect.bisect_right(history, version, key=lambda change: change.version)
        return history[place - 1] if place else None

    def live(self):
        last = (history[-1] for history in self.histories.values())
        return {change.id: change for change in last if change.vector is not None}

    # ---- checks

    def fault(self, kind, text):
        self.faults[kind] += 1
        self.examples.setdefault(kind, text)

    def check(self, answers):
        """Checks answers of one connection, in their order, once every write is acknowledged.
        Returns the share of searches with a live row's vector that found that row, or None."""
        before, searched, found = 0, 0, 0
        for vector, floor, bucket, target, answer in answers:
            version, hits = answer["version"], answer["results"]
            if version < floor:
                self.fault("an old version", f"{version} where {floor} was acknowledged")
            if version < before:
                self.fault("a version that went backward", f"{version} after {before}")
            before = version
            self.check_hits(vector, bucket, version, hits)
            if target is not None and self.at(target.id, version) is target:
                searched += 1
                found += any(hit["id"] == target.id for hit in hits)
        return found / searched if searched else None

    def check_hits(self, vector, bucket, version, hits):
        ids = [hit["id"] for hit in hits]
        if len(set(ids)) < len(ids):
            self.fault("a row twice", f"version {version}: {ids}")
        if len(hits) < min(K, self.rows.count // (2 * BUCKETS)):
            self.fault("too few rows", f"version {version}: {len(hits)}, bucket {bucket}")
        distances = [hit["distance"] for hit in hits]
        if distances != sorted(distances):
            self.fault("not in order", f"version {version}: {distances}")
        for hit in hits:
            self.check_hit(vector, bucket, version, hit)

    def check_hit(self, vector, bucket, version, hit):
        where = f"{hit['id']} at version {version}"
        change = self.at(hit["id"], version)
        if change is None or change.vector is None:
            self.fault("a row that is not there", f"{where}: {change and change.version}")
            return
        if hit["metadata"] != change.metadata():
            self.fault("metadata of another write", f"{where}: {hit['metadata']}")
        if bucket is not None and change.stamp % BUCKETS != bucket:
            self.fault("a row that the filter leaves out", where)
        expected = cosine(vector, change.vector)
        if abs(hit["distance"] - expected) > DISTANCE_ERROR_MAX:
            self.fault("a wrong distance", f"{where}: {hit['distance']}, not {expected}")

    def compare_export(self, url):
        """The export of the whole collection must be what the model has."""
        with urllib.request.urlopen(f"{url}/v1/collections/{COLLECTION}/export") as lines:
            self.check_export(int(lines.headers["x-brainy-version"]), map(json.loads, lines))

    def check_export(self, version, records):
        expected = self.live()
        if version < self.acknowledged:
            self.fault("an old export", f"{version} where {self.acknowledged} was acknowledged")
        for record in records:
            change = expected.pop(record["id"], None)
            if change is None:
                self.fault("an exported row that is not there or twice", record["id"])
            elif record["metadata"] != change.metadata():
                self.fault("exported metadata of another write", record["id"])
            elif not numpy.array_equal(numpy.float32(record["vector"]), change.vector):
                self.fault("an exported vector that differs", record["id"])
        for identifier in expected:
            self.fault("a row that the export lacks", identifier)


def cosine(one, other):
    one, other = one.astype(numpy.float64), other.astype(numpy.float64)
    return 1 - one @ other / (numpy.linalg.norm(one) * numpy.linalg.norm(other))
