"""Two halves of the rows, merged, against an index that was built of all of them at once."""

import statistics

from .brainy import Brainy
from .measure import Run, needed, recall_of


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
    halves, merge, rebuild = (answer[f"{part}Seconds"] for part in ("halves", "merge", "rebuild"))
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
