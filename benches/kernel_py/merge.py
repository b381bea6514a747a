"""Two halves of the rows, merged, against an index that was built of all of them at once; and an
index of all rows without some of them, against one that was built of the others.
"""

import copy
import statistics

import numpy

from .brainy import Brainy
from .data import K, nearest, worst
from .measure import Run, needed, recall_of, sweep
from .peers import rectangle

DEAD_SHARES = (0.05, 0.2, 0.4, 0.5)


def run(runs, rows, args):
    """Searches the index of the main table beside a merged one, which is in a process of its own."""
    ours = next((run for run in runs if run.engine.name == Brainy.name), None)
    if ours is None:
        print("\n--merge was left out: it needs brainy")
        return
    merged = Brainy()
    try:
        merged.prepare(rows)
        merged.start(args.threads)
        try:
            answer = merged.ask({"op": "merge"})
        except RuntimeError:
            # It may want all rows built first.
            merged.ask({"op": "build"})
            answer = merged.ask({"op": "merge"})
        compare(answer, Run(merged, recalls(merged, rows, ours)), ours, args)
        for share in DEAD_SHARES:
            thin(merged, rows, share, args)
    except RuntimeError as fault:
        print(f"\n--merge was left out: {fault}")
    finally:
        merged.close()


def recalls(engine, rows, ours):
    return {width: recall_of(engine, rows, width) for width in needed(ours.recalls)}


def compare(answer, merged, ours, args):
    rebuilt = Run(ours.engine, {width: ours.recalls[width] for width in merged.recalls})
    for number in range(args.rounds):
        for run in (merged, rebuilt) if number % 2 == 0 else (rebuilt, merged):
            run.turn()
    halves, merge, rebuild = (answer[f"{part}Seconds"] for part in ("parts", "merge", "rebuild"))
    print(f"\nmerge: halves {halves:.2f} s, merge {merge:.2f} s, rebuild {rebuild:.2f} s: "
          f"a merge takes {merge / rebuild:.2f}x of a rebuild")
    print(f"\n{'width':>6} {'recall merged':>14} {'rebuilt':>8} {'searches/s merged':>18} "
          f"{'rebuilt':>16} {'merged / rebuilt':>20}")
    for width, recall in merged.recalls.items():
        pairs = list(zip(merged.rates[width], rebuilt.rates[width]))
        rates = [f"{statistics.median(each):.0f} [{max(each):.0f}]" for each in zip(*pairs)]
        each = [ours / theirs for ours, theirs in pairs]
        ratio = f"{statistics.median(each):.2f}x ({min(each):.2f}..{max(each):.2f})"
        print(f"{width:6} {recall:14.4f} {rebuilt.recalls[width]:8.4f} {rates[0]:>18} "
              f"{rates[1]:>16} {ratio:>20}")


class Rebuilt:
    """Searches of the same process that go to what was built anew."""

    def __init__(self, engine):
        self.engine = engine

    def search(self, width):
        question = {"op": "search", "k": K, "rebuilt": True}
        if width is not None:
            question["ef"] = width
        answer = self.engine.ask(question)
        return answer["seconds"], rectangle(answer["ids"])


def thin(engine, rows, share, args):
    """Compares what is left when this share of the rows is left out."""
    dead = numpy.random.default_rng(23).random(rows.count) < share
    answer = engine.ask({"op": "thin", "dead": numpy.flatnonzero(dead).tolist()})
    left = without(rows, dead)
    recalls = sweep(engine, left)
    rebuilt = Rebuilt(engine)
    widths = needed(recalls)
    ours = Run(engine, {width: recalls[width] for width in widths})
    anew = Run(rebuilt, {width: recall_of(rebuilt, left, width) for width in widths})
    default = [left.recall(each.search(None)[1]) for each in (engine, rebuilt)]
    for number in range(args.rounds):
        for run in (ours, anew) if number % 2 == 0 else (anew, ours):
            run.turn()
    merge, rebuild = answer["mergeSeconds"], answer["rebuildSeconds"]
    print(f"\n{share:.0%} dead: merge {merge:.2f} s, rebuild {rebuild:.2f} s: a merge takes "
          f"{merge / rebuild:.2f}x of a rebuild; recall of the default effort {default[0]:.4f}, "
          f"rebuilt {default[1]:.4f}")
    for target in (0.95, 0.98, 0.99):
        rates = [run.at_each(target, args.rounds) for run in (ours, anew)]
        if None not in rates:
            ratio = statistics.median(a / b for a, b in zip(*rates))
            print(f"  recall {target}: {statistics.median(rates[0]):.0f} searches/s, "
                  f"{statistics.median(rates[1]):.0f} rebuilt: {ratio:.2f}x")


def without(rows, dead):
    """The same rows and queries with what is nearest of those that are not dead."""
    kept, left = numpy.flatnonzero(~dead), copy.copy(rows)
    left.truth = kept[nearest(rows.base[kept], rows.queries, rows.metric)]
    left.worst = worst(left.distances(left.truth))
    return left
