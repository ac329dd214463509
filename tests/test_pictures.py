#!/usr/bin/env python3
"""slope plot, and the report of slope compare: what the pictures and the page hold, and what is left without gnuplot.

    test_pictures.py SLOPE     the path of the command; 77 (skipped) where there is no gnuplot
"""
import csv
import html.parser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

slope = os.path.abspath(sys.argv[1])
failures = 0
SVG = "{http://www.w3.org/2000/svg}"
# Only gnuplot shall be found or missing: the rest of the environment stays.
environment = {k: v for k, v in os.environ.items() if k not in ("SLOPE_ISA", "SLOPE_DATA_DIR")}
environment["SLOPE_DATA_MIRROR"] = "off"
without = dict(environment, PATH="/nonexistent")


def check(good, *what):
    global failures
    if not good:
        failures += 1
        print("FAILED:", *what, file=sys.stderr)


def run(*arguments, env=environment, status=0):
    done = subprocess.run([slope, *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    check(done.returncode == status, arguments, "status", done.returncode, "not", status, done.stderr)
    return done


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def curves(svg):
    """The drawn curves: groups that hold a path or marks."""
    groups = [g for g in svg.iter(SVG + "g") if g.get("id", "").startswith("gnuplot_plot_")]
    return [g for g in groups if list(g.iter(SVG + "path"))]


def texts(svg):
    return ["".join(t.itertext()) for t in svg.iter(SVG + "text")]


# --- without gnuplot ---


def plot_without():
    done = run("plot", "relu", "step", env=without)
    check("gnuplot is missing (Debian: gnuplot-nox)" in done.stderr, done.stderr)
    check(os.listdir(".") == ["slope-plot.csv"], "left behind:", os.listdir("."))
    run("plot", "relu", "--out", "relu.svg", env=without, status=1)
    check(sorted(os.listdir(".")) == ["relu.csv", "slope-plot.csv"], "left behind:", os.listdir("."))
    run("plot", "relu", "--out", "numbers.csv", env=without)
    run("plot", "relu", "--out", "relu.pdf", env=without, status=2)
    run("plot", "rellu", env=without, status=2)
    for wrong in "1:1", "2:1", "1", "a:b", "-inf:1", "1:2x":
        run("plot", "relu", "--range", wrong, env=without, status=2)
    with open("slope-plot.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        x, value, slope_ = float(row["x"]), float(row["value"]), float(row["slope"])
        want = (max(x, 0), x > 0) if row["activation"] == "relu" else (x >= 0, 0)
        check((value, slope_) == want, "wrong numbers:", row)
    near = sorted(abs(float(row["x"])) for row in rows if row["activation"] == "step")
    check(near[1] < 1e-12, "the jump of step is wider than", near[1])
    check(float(rows[0]["x"]) == -6 and float(rows[-1]["x"]) == 6, "another range")


# --- with it ---


def plot_with():
    done = run("plot", "relu", "x*sigmoid(1.5*x)", "(x<1)*(x>-1) + 0*x", "--out", "three.svg")
    check(done.stdout == "three.svg\n" and done.stderr == "", done.stdout, done.stderr)
    svg = xml.parse("three.svg").getroot()
    # In each panel one for each, then the key's.
    check(len(curves(svg)) == 9, "9 curves expected, there are", len(curves(svg)))
    for name in "relu", "x*sigmoid(1.5*x)", "(x<1)*(x>-1) + 0*x":
        check(name in texts(svg), name, "is not in", texts(svg))
    # A jump is a gap, not a slanted line: the third curve of the left panel is drawn in three parts.
    parts = [p.get("d").count("M") for p in curves(svg)[2].iter(SVG + "path")]
    check(sum(parts) == 3, "a curve with two jumps in parts:", parts)
    run("plot", "softsign", "--out", "one.png", "--range=-1e3:5")
    with open("one.png", "rb") as file:
        check(file.read(8) == b"\x89PNG\r\n\x1a\n", "one.png is no PNG file")
    done = run("plot", "--each", "--out", "each.svg")
    want = ["each-%d-%s.svg" % (i + 1, n) for i, n in enumerate("sigmoid tanh relu leaky_relu swish".split())]
    check(done.stdout.split() == want, done.stdout)
    for name in want:
        check(len(curves(xml.parse(name).getroot())) == 3, name)
    check(not [n for n in os.listdir(".") if n.endswith(".new")], "left behind:", os.listdir("."))
    run("plot", "relu", "--out", "no/folder.svg", status=1)
    with open("gnuplot", "w") as file:
        file.write("#!/bin/sh\necho it does not work >&2\nexit 3\n")
    os.chmod("gnuplot", 0o755)
    done = run("plot", "relu", "--out", "no.svg", env=dict(environment, PATH=os.getcwd()), status=1)
    check("it does not work" in done.stderr and "gnuplot failed with status 3" in done.stderr, done.stderr)
    check(not os.path.exists("no.svg"), "a failed gnuplot left a picture")


class Page(html.parser.HTMLParser):
    """Tags that match, ids that are unique, references that lead somewhere in the page or beside it."""

    VOID = {"meta", "br", "hr", "img", "link", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.files, self.pictures, self.rows = [], [], [], [], [], []
        self.cell, self.drawn = None, 0
        self.feed(text)
        self.close()
        check(not self.open, "tags stay open:", self.open)
        check(len(self.ids) == len(set(self.ids)), "ids come twice")
        check(set(self.references) <= set(self.ids), "lead nowhere:", set(self.references) - set(self.ids))

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        check(tag not in ("script", "link", "iframe", "object", "embed", "img"), "the page loads by", tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in a:
            self.ids.append(a["id"])
        if tag == "svg":
            self.pictures.append(a.get("aria-label", ""))
            check(a.get("role") == "img" and "viewbox" in a and "width" not in a, "picture", a)
        for name in "href", "xlink:href", "src":
            if name in a and a[name].startswith("#"):
                self.references.append(a[name][1:])
            elif name in a:
                self.files.append(a[name])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = ""
        if tag == "path":
            self.drawn += 1

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        check(self.open and self.open.pop() == tag, "</%s> closes another tag" % tag)
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


LIST = ["relu", "0<x ? max(x,0.1*x) : (x>-1)", "swish"]
SMALL = ["--data", "digits", "--limit-train", "300", "--limit-test", "100", "--batch", "50", "--epochs", "2",
         "--seeds", "2", "--model", "dense12 act dense9 act dense10", "--activations", ",".join(LIST), "--quiet"]


def report(drawn):
    env = environment if drawn else without
    run("compare", *SMALL, "--out", "some", env=env)
    text = read("some/report.html")
    page = Page(text)
    remote = r"""(src|href|action|data)\s*=\s*["']?\s*(https?:|//)|@import|url\((?!#)"""
    check(not re.search(remote, text), "a remote address:", re.search(remote, text))
    check("prefers-color-scheme:dark" in text and "@media print" in text and "width=device-width" in text, "the style")
    check([row[0] for row in page.rows] == ["activation"] + LIST, [row[0] for row in page.rows])
    check("Not MNIST" in text and "because no --validation was given" in text, "what was run is not told")
    with open("some/summary.csv", newline="", encoding="utf-8") as file:
        means = {row["activation"]: row for row in csv.DictReader(file)}
    for row in page.rows[1:]:
        mean = "%.2f ± " % (100 * float(means[row[0]]["validation_accuracy"]))
        check(row[1].startswith(mean), row[0], row[1], "is not", mean)
    for file in page.files:
        check(os.path.exists("some/" + file), "linked, but not there:", file)
    if not drawn:
        check(not page.pictures and "gnuplot is missing (Debian: gnuplot-nox)" in text, "pictures without gnuplot")
        check("summary.csv" in page.files, "the numbers are not linked")
        return
    check(len(page.pictures) >= 10 and all(page.pictures), "pictures:", page.pictures)
    for black in "rgb( 26,", "rgb(26,", ' color="black"':
        check(black not in text, "what stays black in the dark:", black)
    for name in os.listdir("some"):
        if name.endswith(".svg"):
            xml.parse("some/" + name)
            check(os.path.exists("some/" + name[:-3] + "png"), name, "without its PNG")
    svg = xml.parse("some/validation-error.svg").getroot()
    check(len(curves(svg)) == 3, "validation-error.svg has", len(curves(svg)), "curves")


def main():
    folder = tempfile.mkdtemp()
    home = os.getcwd()
    drawing = shutil.which("gnuplot") is not None
    for number, part in enumerate([plot_without, lambda: report(False)] + drawing * [plot_with, lambda: report(True)]):
        os.mkdir(os.path.join(folder, str(number)))
        os.chdir(os.path.join(folder, str(number)))
        part()
    os.chdir(home)
    shutil.rmtree(folder)
    if failures:
        return 1
    if not drawing:
        print("skipped: gnuplot is missing; what is left without it was tested")
        return 77
    return 0


sys.exit(main())
