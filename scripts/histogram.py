#!/usr/bin/env python3
"""Histograms of learned parameters in model files, as one SVG by gnuplot, and their figures as text.

    histogram.py --out PICTURE.svg --title TEXT SUFFIX FILE…

Of every FILE (safetensors) all tensors whose name ends in SUFFIX, such as .beta or .a, are taken; those of one layer in all
files are one histogram. Nothing but Python and gnuplot is needed.
"""

import argparse
import json
import statistics
import struct
import subprocess
import sys

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito


def tensors(path, suffix):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        for name, entry in header.items():
            if name == "__metadata__" or not name.endswith(suffix) or entry["dtype"] != "F32":
                continue
            first, last = entry["data_offsets"]
            file.seek(8 + size + first)
            yield name, struct.unpack(f"<{(last - first) // 4}f", file.read(last - first))


def bins(values, low, width, count):
    counts = [0] * count
    for value in values:
        counts[min(count - 1, max(0, int((value - low) / width)))] += 1
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--title", required=True)
    parser.add_argument("--start", type=float, required=True, help="where learning began")
    parser.add_argument("suffix")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    layers = {}
    for path in args.files:
        for name, values in tensors(path, args.suffix):
            layers.setdefault(name, []).extend(values)
    if not layers:
        sys.exit(f"no tensor ends in {args.suffix}")
    everything = [value for values in layers.values() for value in values]
    low, high = min(everything), max(everything)
    count = 30
    width = (high - low) / count or 1
    plot = [
        f"set terminal svg size 640,{140 + 150 * len(layers)} noenhanced font 'sans-serif,13' background '#ffffff'",
        f"set multiplot layout {len(layers)},1 title '{args.title}'",
        "set style fill solid 0.8",
        "set boxwidth 0.9 relative",
        f"set xrange [{low - width}:{high + width}]",
        "set border 3",
        "set tics nomirror out",
        "set ylabel 'channels'",
        "set yrange [0:*]",
        f"set arrow from {args.start}, graph 0 to {args.start}, graph 1 nohead dt 2 lc rgb '#555555'",
    ]
    for i, (name, values) in enumerate(layers.items()):
        mean, spread = statistics.fmean(values), statistics.pstdev(values)
        print(f"| `{name}` | {len(values)} | {mean:.3f} | {spread:.3f} | {min(values):.3f} | {max(values):.3f} |")
        last = i == len(layers) - 1
        plot.append(f"set xlabel '{'value; dashed: where it began' if last else ''}'")
        plot.append(f"set title '{name}: {len(values)} values, mean {mean:.2f}, s.d. {spread:.2f}'")
        counts = bins(values, low, width, count)
        plot.append(f"set ytics {max(1, max(counts) // 4)}")
        plot.append(f"plot '-' using 1:2 with boxes lc rgb '{COLOURS[i % len(COLOURS)]}' notitle")
        plot += [f"{low + (k + 0.5) * width} {n}" for k, n in enumerate(counts)]
        plot.append("e")
    picture = subprocess.run(["gnuplot"], input="\n".join(plot) + "\n", capture_output=True, text=True)
    if picture.returncode != 0:
        sys.exit(picture.stderr)
    with open(args.out, "w") as file:
        file.write(picture.stdout)


main()
