"""Sweeps the search widths, then measures them in rounds."""

import statistics
import sys

from .data import K
from .engines import refuse

TARGETS = (0.95, 0.98, 0.99)
WIDTH_MAX = 2_000
# A coarse sweep ends here: a little past the last recall that is compared.
ENOUGH = 0.995


class Run:
    """One engine's widths: the recall of each, and its searches per second in each round."""

    def __init__(self, engine, recalls):
        self.engine = engine
        self.recalls = recalls
        self.rates = {width: [] for width in recalls}
        # A wider search that finds no more is not what one would use.
        self.steps = []
        for width, recall in sorted(recalls.items()):
            if not self.steps or recall > self.steps[-1][1]:
                self.steps.append((width, recall))

    def at(self, target, number):
        """Searches per second of a round at a recall, linear between the two points around it;
        at the smallest width where that has more; None where no width has as much."""
        points = [(recall, self.rates[width][number]) for width, recall in self.steps]
        if points[0][0] >= target:
            return points[0][1]
        for (low, fast), (high, slow) in zip(points, points[1:]):
            if high >= target:
                return fast + (slow - fast) * (target - low) / (high - low)
        return None

    def at_each(self, target, rounds):
        rates = [self.at(target, number) for number in range(rounds)]
        return None if None in rates else rates


    def turn(self):
        """Measures each width once. What another engine left in the caches is pushed out first."""
        self.engine.search(next(iter(self.recalls)))
        for width in self.recalls:
            seconds, ids = self.engine.search(width)
            self.rates[width].append(len(ids) / seconds)


def run(engines, refused, rows, args):
    runs = []
    for engine in list(engines):
        try:
            recalls = sweep(engine, rows)
            for width in finer(recalls):
                recalls[width] = recall_of(engine, rows, width)
        except Exception as fault:
            refuse(engine, fault, refused)
            engines.remove(engine)
            continue
        if not (args.picture or args.json):
            recalls = {width: recalls[width] for width in needed(recalls)}
        runs.append(Run(engine, dict(sorted(recalls.items()))))
        said = ", ".join(f"{width}: {recall:.4f}" for width, recall in runs[-1].recalls.items())
        print(f"{engine.name}: {said}", file=sys.stderr, flush=True)
    for number in range(args.rounds):
        # The other way round every second time, so that none always follows the same one.
        for run in runs if number % 2 == 0 else reversed(runs):
            run.turn()
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
    return runs


def recall_of(engine, rows, width):
    return rows.recall(engine.search(width)[1])


def sweep(engine, rows):
    """Recall at widths about a factor 1.4 apart, until it is enough."""
    recalls, width = {}, float(K)
    while True:
        recalls[int(width)] = recall = recall_of(engine, rows, int(width))
        width *= 2**0.5
        if recall >= ENOUGH or width > min(WIDTH_MAX, rows.count):
            return recalls


def finer(recalls):
    """Widths around each crossing of a recall, between the two of the sweep that bracket it."""
    widths = set()
    for target in TARGETS:
        low, high = bracket(recalls, target)
        if low is None or high is None:
            continue
        share = (target - recalls[low]) / (recalls[high] - recalls[low])
        middle = low + share * (high - low)
        for factor in (0.94, 1.0, 1.06):
            widths.add(int(min(max(round(middle * factor), low), high)))
    return sorted(width for width in widths if width not in recalls)


def bracket(recalls, target):
    """The last width below the recall and the first one that has it, or None for either."""
    ordered = sorted(recalls)
    high = next((width for width in ordered if recalls[width] >= target), None)
    below = [width for width in ordered if high is None or width < high]
    return (below[-1] if below else None), high


def needed(recalls):
    """The widths that the rates at the recalls are computed from: two on either side."""
    widths, ordered = {min(recalls)}, sorted(recalls)
    for target in TARGETS:
        low, _ = bracket(recalls, target)
        place = ordered.index(low) + 1 if low is not None else 0
        widths.update(ordered[max(place - 2, 0) : place + 2])
    return sorted(widths)


def median_and_best(rates):
    return statistics.median(rates), max(rates)
