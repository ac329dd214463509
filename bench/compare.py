#!/usr/bin/env python3
"""Compares two files of results: what became faster, what slower, beyond the noise.

    compare.py OLD NEW [--fail-slower PERCENT] [--all]

Reads what run.sh --save and save.sh keep in results/, and what the programs print with --json (bench_train,
bench_activations, bench_calls, bench_scaling, bench_start). The noise of a figure is the spread of its turns: the
distance of the quartiles, or of the extremes where there are fewer than five turns; a change counts where it is larger
than the mean of the old and the new spread. Other frameworks are shown too: where they change, the machine did.

--fail-slower   exit status 1 where a figure of Slope is slower by more than PERCENT, and beyond the noise
--all           also what did not change
"""

import argparse
import json
import statistics
import sys

LEAST_NOISE = 0.01  # turns that agree by chance, and figures that were taken once


class Figure:
    """Turns of one quantity. `better`: +1 where more is better, -1 where less is. `own`: Slope's, no peer's."""

    def __init__(self, better, turns=None, median=None, lowest=None, highest=None, own=True):
        self.better, self.own = better, own
        if turns is not None:
            turns = sorted(turns)
            median = statistics.median(turns)
            lowest, highest = turns[0], turns[-1]
            if len(turns) >= 5:
                lowest, _, highest = statistics.quantiles(turns, n=4, method="inclusive")
        self.median = median
        self.spread = (highest - lowest) / median if median > 0 else 0.0


def read(path):
    """The file's JSON values: one, or one a line."""
    with open(path) as file:
        text = file.read()
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def facts_of(values):
    found = {}
    for value in values:
        for key in ("date", "machine", "commit", "device", "load"):
            if isinstance(value, dict) and key in value:
                found.setdefault(key, value[key])
    return ", ".join(f"{key} {text}" for key, text in found.items()), found.get("machine")


def gather(value, figures, peaks):
    """Adds every figure found in `value`, by name."""
    if isinstance(value, list):
        for item in value:
            gather(item, figures, peaks)
        return
    if not isinstance(value, dict):
        return
    if "peak_gflops" in value:
        peak = value["peak_gflops"]
        peaks.extend(peak if isinstance(peak, list) else [peak])
    gather(value.get("results"), figures, peaks)
    for model, frameworks in value.get("models", {}).items():
        for framework, entry in frameworks.items():
            turns = [statistics.median(turn) for turn in entry["samples_per_second"]]
            figures[f"{model}, {without_version(framework)}, samples/s"] = Figure(+1, turns, own=is_own(framework))
    if "framework" in value and "samples_per_second" in value:
        name = f"{value['model']}, {without_version(value['framework'])}, batch {value.get('batch', '?')}, samples/s"
        figures[name] = Figure(+1, value["samples_per_second"], own=is_own(value["framework"]))
    for activation in value.get("activations", []):
        for form, entry in activation.items():
            if isinstance(entry, dict):
                figures[f"{activation['name']} {form}, GB/s"] = Figure(
                    +1, None, entry["gb_per_second"], entry["lowest"], entry["highest"])
            elif form.endswith("_ns"):
                figures[f"{activation['name']} {form[:-3]}, ns"] = Figure(-1, [entry])
    for row in value.get("rows", []):
        figures[f"{row['name']}, µs"] = Figure(-1, row["us"])
    for row in value.get("planning", []):
        figures[f"planning {row['name']}, ms"] = Figure(-1, row["ms"])
    for row in value.get("starts", []):
        figures[f"start {row['name']}, ms"] = Figure(-1, row["ms"])
        figures[f"start {row['name']}, MiB"] = Figure(-1, row["mib"])
    for number, call in enumerate(value.get("calls", [])):
        name = f"call {number} of {value.get('line', '')}: {call['operation']}, µs"
        figures[name] = Figure(-1, None, call["us"], call["lowest"], call["highest"])


def is_own(framework):
    return framework.startswith("slope")


def without_version(framework):
    """Slope's versions are what is compared; another framework's version is part of its name."""
    return "slope" if is_own(framework) else framework


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--fail-slower", type=float, metavar="PERCENT")
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    sides, machines = [], []
    for path in (args.old, args.new):
        values = read(path)
        facts, machine = facts_of(values)
        figures, peaks = {}, []
        gather(values, figures, peaks)
        if not figures:
            sys.exit(f"{path}: no figure was found in it")
        text = f"; peak {statistics.median(peaks):.0f} GFLOP/s" if any(peaks) else ""
        print(f"{path}: {facts or 'machine and commit unknown'}{text}")
        sides.append(figures)
        machines.append(machine)
    if None not in machines and machines[0] != machines[1]:
        print("These are two machines: the changes are theirs, too.")
    old, new = sides
    both = [name for name in old if name in new]
    if not both:
        sys.exit("the files have no figure in common")
    width = max(len(name) for name in both)
    print(f"\n{'':{width}} {'old':>12} {'new':>12} {'change':>8} {'noise':>7}")
    failed = faster = slower = 0
    for name in both:
        a, b = old[name], new[name]
        if a.median <= 0 or b.median <= 0:
            continue
        # How many times as fast.
        ratio = (b.median / a.median) ** a.better
        noise = max((a.spread + b.spread) / 2, LEAST_NOISE)
        word = ""
        if abs(ratio - 1) > noise:
            word = "faster" if ratio > 1 else "slower"
            faster += word == "faster" and a.own
            slower += word == "slower" and a.own
            if args.fail_slower is not None and a.own and 1 / ratio > 1 + args.fail_slower / 100:
                word += ", too much"
                failed += 1
        if word or args.all:
            print(f"{name:{width}} {a.median:12.2f} {b.median:12.2f} {100 * (ratio - 1):+7.1f}% {100 * noise:6.1f}% "
                  f" {word}".rstrip())
    alone = len(old) + len(new) - 2 * len(both)
    print(f"\nof {len(both)}: {faster} faster, {slower} slower"
          + (f"; {alone} stand in one of the files only" if alone else ""))
    if failed:
        sys.exit(f"{failed} slower by more than {args.fail_slower:g} %")


if __name__ == "__main__":
    main()
