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
    peers.Symqg,
    peers.Vsag,
    peers.Scann,
    peers.Qdrant,
    # Only where they are asked for by name.
    peers.SvsLvq8,
    peers.SvsLeanVec,
    peers.Symqg8,
]
BY_NAME = {engine.name: engine for engine in ENGINES}
USUAL = [engine.name for engine in ENGINES[:-3]]


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
            engine.prepare(rows)
            engine.build_seconds = None
            started, used = time.perf_counter(), time.process_time()
            engine.build(args.threads)
            used = time.process_time() - used
            # The binary tells its own, without its start.
            engine.build_seconds = engine.build_seconds or time.perf_counter() - started
            engine.measure()
        except Exception as fault:
            refuse(engine, fault, refused)
            continue
        # Far fewer cores than threads: something else had them, and the time is worth little.
        cores = f" on {used / engine.build_seconds:.2f} cores" if engine.package else ""
        print(f"{name}: built in {engine.build_seconds:.1f} s{cores}", file=sys.stderr, flush=True)
        built.append(engine)
    if not built:
        sys.exit("no engine could be built")
    return built, refused


def refuse(engine, fault, refused):
    reason = (str(fault) or type(fault).__name__).splitlines()[0][:200]
    refused[engine.name] = reason
    print(f"{engine.name}: left out: {reason}", file=sys.stderr)
    try:
        engine.close()
    except Exception:
        pass  # It did not come as far as having something to close.
