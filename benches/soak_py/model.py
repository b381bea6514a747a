"""What the collection may be, kept outside of it.

Every id is written by one client, one request after another, so the order of its writes is known. An
outcome that was not heard of leaves both possibilities until the next one that was acknowledged: a write
whose answer was cut off is in the log before that, or never. Deletes by filter are events of their own:
one that names `asOf` takes what matched and was written at or before it.
"""

import bisect
import collections
import threading
import time

# What two clocks in one process and a loaded machine may differ by, in seconds.
SLACK_SECONDS = 0.5


class Write:
    """One write of one id. `stamp` is a number of its own (None: a delete), `hot` what filters ask for;
    `version` its place in the log, None while (or for ever) it is not known."""

    __slots__ = ("stamp", "hot", "vector", "version")

    def __init__(self, stamp, hot=None, vector=None):
        self.stamp, self.hot, self.vector, self.version = stamp, hot, vector, None


class Sweep:
    """A delete by filter: of `hot`, as of a version, at a version; None where the answer was cut off."""

    __slots__ = ("hot", "as_of", "version")

    def __init__(self, hot):
        self.hot, self.as_of, self.version = hot, None, None


class Model:
    def __init__(self):
        self.lock = threading.Lock()
        self.writes = collections.defaultdict(list)
        self.sweeps = []
        self.stamps = 0
        # Versions that were acknowledged, ascending, and when.
        self.acknowledged, self.when = [0], [time.monotonic()]
        self.faults = collections.Counter()
        self.examples = {}

    # ---- what clients do and hear

    def begin(self, identifier, hot, vector):
        with self.lock:
            self.stamps += 1
            write = Write(self.stamps if vector is not None else None, hot, vector)
            self.writes[identifier].append(write)
            return write

    def refused(self, identifier, write):
        """It did not and will not happen."""
        with self.lock:
            self.writes[identifier].remove(write)

    def begin_sweep(self, hot):
        sweep = Sweep(hot)
        with self.lock:
            self.sweeps.append(sweep)
        return sweep

    def refused_sweep(self, sweep):
        with self.lock:
            self.sweeps.remove(sweep)

    def acknowledge(self, things, version):
        with self.lock:
            for thing in things:
                thing.version = version
            if version > self.acknowledged[-1]:
                self.acknowledged.append(version)
                self.when.append(time.monotonic())

    def newest(self):
        with self.lock:
            return self.acknowledged[-1]

    def staleness(self, version, asked):
        """For how many seconds, at the moment `asked`, there had been something newer than `version`."""
        with self.lock:
            place = bisect.bisect_right(self.acknowledged, version)
            if place == len(self.acknowledged):
                return 0.0
            return max(asked - self.when[place], 0.0)

    # ---- what is so

    def possible(self, identifier, version):
        """The stamps that the id may have at a version; None among them where it may be absent."""
        history = self.writes.get(identifier, [])
        last = -1
        for place, write in enumerate(history):
            if write.version is not None and write.version <= version:
                last = place
        candidates = [history[last]] if last >= 0 else []
        absent = last < 0
        for write in history[last + 1 :]:
            if write.version is not None:
                break
            candidates.append(write)
        stamps = {None} if absent else set()
        for write in candidates:
            stamps |= self.after_sweeps(write, version)
        return stamps

    def after_sweeps(self, write, version):
        if write.stamp is None:
            return {None}
        stamps = {write.stamp}
        for sweep in self.sweeps:
            if sweep.hot != write.hot:
                continue
            if sweep.version is None or write.version is None:
                # Either may have come first, or never.
                stamps.add(None)
            elif sweep.version <= version and write.version <= sweep.as_of:
                return {None}
        return stamps

    # ---- checks

    def fault(self, kind, text):
        with self.lock:
            self.faults[kind] += 1
            self.examples.setdefault(kind, text)

    def check_all(self, found, version, who):
        """`found`: the stamps of all records that an export or a listing showed, by id."""
        with self.lock:
            faults = []
            for identifier in self.writes.keys() | found.keys():
                may = self.possible(identifier, version)
                is_there = found.get(identifier)
                if is_there in may:
                    continue
                history = [(w.stamp, w.hot, w.version) for w in self.writes[identifier]][-6:]
                kind = "lost" if is_there is None else "returned or changed"
                faults.append((kind, f"{who} at {version}: {identifier} is {is_there}, may be {may}; {history}"))
        for kind, text in faults:
            self.fault(kind, text)

    def check_some(self, found, version, who):
        """`found`: (id, stamp) of hits; nothing is said of what is missing."""
        with self.lock:
            wrong = [(i, s, self.possible(i, version)) for i, s in found if s not in self.possible(i, version)]
        for identifier, stamp, may in wrong:
            self.fault("returned or changed", f"{who} at {version}: {identifier} is {stamp}, may be {may}")
