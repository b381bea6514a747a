"""Figures of rounds: a table of medians and ranges, the machine, and JSON."""

import json
import os
import platform
import statistics
import sys

from kernel_py.report import cpu


class Table:
    """Lines, each with a name and a list of figures (one for each round) in every column."""

    def __init__(self, title, name_width, columns):
        """`columns`: the heading of each figure and how to format it, as {"p50 us": ".0f"}."""
        self.title, self.name_width, self.columns = title, name_width, columns
        self.lines = {}
        self.notes = []

    def add(self, name, figures):
        """A round's figures, each by its heading."""
        line = self.lines.setdefault(name, {heading: [] for heading in self.columns})
        for heading, value in figures.items():
            line[heading].append(value)

    def print(self):
        print(f"\n{self.title}")
        cells = {
            name: [cell(line[heading], form) for heading, form in self.columns.items()]
            for name, line in self.lines.items()
        }
        widths = [
            max(len(heading), *(len(line[place]) for line in cells.values()))
            for place, heading in enumerate(self.columns)
        ]
        headings = [f"{heading:>{width}}" for heading, width in zip(self.columns, widths)]
        print(f"{'':{self.name_width}}  {'  '.join(headings)}")
        for name, line in cells.items():
            texts = [f"{text:>{width}}" for text, width in zip(line, widths)]
            print(f"{name:{self.name_width}}  {'  '.join(texts)}")
        for note in self.notes:
            print(note)


def cell(values, form):
    if not values:
        return "-"
    middle = f"{statistics.median(values):{form}}"
    if len(values) == 1 or min(values) == max(values):
        return middle
    return f"{middle} ({min(values):{form}}..{max(values):{form}})"


def progress(text):
    print(text, file=sys.stderr, flush=True)


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu(),
        "cpus": os.cpu_count(),
        "memoryGiB": round(memory, 1),
        "python": platform.python_version(),
    }


def finish(args, tables, versions):
    """Prints what was measured on which machine and with what, and writes the JSON."""
    known = machine()
    for table in tables:
        table.print()
    print(f"\n{known['system']}, {known['cpu']}, {known['cpus']} CPUs, {known['memoryGiB']} GiB; "
          f"{args.rounds} rounds, median (range); wrk on the same machine")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    if args.no_wait:
        print("--no-wait: the figures are of rows that need not be indexed")
    if args.json:
        said = {
            "command": args.command,
            "options": {
                name: value if isinstance(value, (int, float, list)) else str(value)
                for name, value in vars(args).items()
                if name not in ("run", "command") and value is not None
            },
            "machine": known,
            "versions": versions,
            "tables": [{"title": table.title, "lines": table.lines, "notes": table.notes}
                       for table in tables],
        }
        args.json.write_text(json.dumps(said, indent=1) + "\n")
        print(f"wrote {args.json}")
