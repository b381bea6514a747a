"""Rows cut at random into several parts, each with an index of its own (or, the tail, without one), and
searched together, against all rows in one index."""

import statistics

from .brainy import Brainy
from .measure import TARGETS, Run, finer, needed, recall_of, sweep


def run(rows, args):
    engines, runs = [], []
    try:
        for count in sorted({1, *args.parts}):
            engines.append(engine := Brainy())
            engine.prepare(rows)
            engine.start(args.threads)
            sizes = [(rows.count + part) // count for part in range(count)]
            engine.ask({"op": "parts", "sizes": sizes})
            recalls = sweep(engine, rows)
            for width in finer(recalls):
                recalls[width] = recall_of(engine, rows, width)
            kept = {width: recalls[width] for width in needed(recalls)}
            kept[None] = recall_of(engine, rows, None)
            runs.append((count, Run(engine, {width: kept[width] for width in kept if width})))
            runs[-1][1].usual = kept[None]
        for number in range(args.rounds):
            for _, each in runs if number % 2 == 0 else reversed(runs):
                each.turn()
        report(runs, args)
        tail(rows, args)
    except RuntimeError as fault:
        print(f"\n--parts was left out: {fault}")
    finally:
        for engine in engines:
            engine.close()


def report(runs, args):
    print(f"\n{'parts':>6} {'recall, default':>16}", end="")
    print("".join(f" {f'us a search at {target}':>32}" for target in TARGETS))
    whole = runs[0][1]
    for count, run in runs:
        print(f"{count:6} {run.usual:16.4f}", end="")
        for target in TARGETS:
            rates, base = (each.at_each(target, args.rounds) for each in (run, whole))
            if rates is None or base is None:
                print(f" {'-':>32}", end="")
                continue
            ratios = [of_one / rate for of_one, rate in zip(base, rates)]
            text = (f"{1e6 / statistics.median(rates):.0f}, {statistics.median(ratios):.2f}x "
                    f"({min(ratios):.2f}..{max(ratios):.2f}) of one")
            print(f" {text:>32}", end="")
        print()


def tail(rows, args):
    """All rows without a graph, up to as many as a tail may have."""
    engine = Brainy()
    try:
        engine.prepare(rows)
        engine.start(args.threads)
        built = engine.ask({"op": "parts", "sizes": [], "flat": [rows.count]})["buildSeconds"][0]
        recall = recall_of(engine, rows, None)
        each = [engine.search(None)[0] / len(rows.queries) for _ in range(args.rounds)]
        print(f"\nwithout a graph: {rows.count} rows, codes in {1e3 * built:.0f} ms on 1 thread, recall "
              f"{recall:.4f}, {1e6 * statistics.median(each):.0f} us a search [{1e6 * min(each):.0f}]")
    finally:
        engine.close()
