"""That the model of `churn` notices every fault that it is there for: a check that cannot fail is none."""

import sys
from types import SimpleNamespace

import numpy
from kernel_py.data import K

from .churn_model import BUCKETS, Model, cosine

COUNT = 400
OLD, NEW, GONE = 1, 2, 3
REPLACED, DELETED = 0, 1


def prove():
    """Ends the run unless a right answer passes and each wrong one is found, as what it is."""
    notices("nothing", lambda model, hits: hits)
    notices("a row twice", lambda model, hits: hits[:1] + hits[:-1])
    notices("too few rows", lambda model, hits: hits[:-1])
    notices("not in order", lambda model, hits: hits[::-1])
    notices("a row that is not there", lambda model, hits: hits[1:] + [deleted(model)])
    notices("metadata of another write", lambda model, hits: [stale(model)] + hits[:-1])
    notices("a wrong distance", lambda model, hits: [{**hits[0], "distance": -0.01}] + hits[1:])
    notices("a row that the filter leaves out", lambda model, hits: hits, bucket=BUCKETS)
    notices("an old version", lambda model, hits: hits, floor=GONE + 1)
    notices("a version that went backward", lambda model, hits: hits, before=GONE + 1)
    exports("nothing", lambda records: records)
    exports("a row that the export lacks", lambda records: records[1:])
    exports("an exported row that is not there or twice", lambda records: records + records[:1])
    exports("an exported vector that differs", lambda records: [
        {**records[0], "vector": (0.5 * records[0]["vector"]).tolist()}, *records[1:]])
    exports("exported metadata of another write", lambda records: [
        {**records[0], "metadata": records[1]["metadata"]}, *records[1:]])
    exports("an old export", lambda records: records, version=GONE - 1)


def small_model():
    """Rows at OLD, one of them replaced at NEW, another one deleted at GONE."""
    base = numpy.random.default_rng(3).standard_normal((COUNT, 8)).astype(numpy.float32)
    model = Model(SimpleNamespace(base=base, count=COUNT))
    model.acknowledge([model.initial(row) for row in range(COUNT)], OLD)
    model.acknowledge([model.change(REPLACED, -base[REPLACED])], NEW)
    model.acknowledge([model.deletion(DELETED)], GONE)
    return model


def query(model):
    return model.rows.base[REPLACED]


def hit(model, change):
    return {"id": change.id, "distance": cosine(query(model), change.vector),
            "metadata": change.metadata()}


def stale(model):
    return hit(model, model.at("row-0", OLD))


def deleted(model):
    return {**hit(model, model.at("row-1", OLD)), "distance": 2.0}


def notices(kind, spoil, floor=0, before=None, bucket=None):
    model = small_model()
    hits = sorted((hit(model, one) for one in model.live().values()), key=lambda one: one["distance"])
    answers = [] if before is None else [answer(model, before, hits[:K], 0, None)]
    answers.append(answer(model, GONE, spoil(model, hits[:K]), floor, bucket))
    model.check(answers)
    expect(model, kind)


def answer(model, version, hits, floor, bucket):
    return query(model), floor, bucket, None, {"version": version, "results": hits}


def exports(kind, spoil, version=GONE):
    model = small_model()
    records = [
        {"id": one.id, "vector": one.vector, "metadata": one.metadata()}
        for one in model.live().values()
    ]
    model.check_export(version, spoil(records))
    expect(model, kind)


def expect(model, kind):
    found = set(model.faults) or {"nothing"}
    if kind not in found or (kind == "nothing" and model.faults):
        sys.exit(f"the model does not notice {kind!r}, but says {found}")
