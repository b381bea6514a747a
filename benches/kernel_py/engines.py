"""Which engines there are, and their builds, one after another."""

import sys
import time

from . import brainy, peers
from .data import Unusable

ENGINES = [
    brainy.Brainy,
    brainy.HnswRs,
    peers.Hnswlib,
    peers.Faiss,
    peers.Usearch,
    peers.Svs,
    peers.SvsLvq4x8,
    peers.Qdrant,
    # Only where they are asked for by name.
    peers.SvsLvq8,
    peers.SvsLeanVec,
]
BY_NAME = {engine.name: engine for engine in ENGINES}
USUAL = [engine.name for engine in ENGINES[:-2]]


def names(text):
    if text is None:
        return USUAL
    chosen = list(dict.fromkeys(text.split(",")))
    for name in chosen:
        if name not in BY_NAME:
            raise Unusable(f"there is no engine {name!r}, only {', '.join(BY_NAME)}")
    return chosen


def build(chosen, rows, args):
    """The engines that were built, and why each of the others was not."""
    built, refused = [], {}
    for name in chosen:
        engine = BY_NAME[name]()
        try:
            started = time.perf_counter()
            engine.started, engine.build_seconds = started, None
            engine.build(rows, args.threads)
            if engine.build_seconds is None:
                engine.build_seconds = time.perf_counter() - engine.started
            engine.measure()
        except Exception as fault:
            refused[name] = (str(fault) or type(fault).__name__).splitlines()[0][:200]
            print(f"{name}: left out: {refused[name]}", file=sys.stderr)
            continue
        print(f"{name}: built in {engine.build_seconds:.1f} s", file=sys.stderr, flush=True)
        built.append(engine)
    if not built:
        sys.exit("no engine could be built")
    return built, refused
