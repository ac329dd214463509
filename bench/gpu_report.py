#!/usr/bin/env python3
"""What scripts/gpu-check.sh found, as results.json and summary.md; prints the summary.

    gpu_report.py WORK OUT [simulated]
"""

import json
import os
import re
import statistics
import sys

MODELS = ("softmax", "mlp", "lenet", "cnn", "cnn-plain")
LONGEST = 11000  # characters: whoever called may see the end of the output alone


def text_of(*path):
    try:
        with open(os.path.join(*path), errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def json_lines(text):
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # a warning, or the last line of a program that was stopped
            pass
    return found


def json_whole(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}


def rows_of(text):
    return [line.split("\t") for line in text.splitlines() if line]


def collect(work, simulated):
    data = os.path.join(work, "data")
    result = {"simulated": simulated,
              "machine": dict(line.split(": ", 1) for line in text_of(work, "machine").splitlines() if ": " in line),
              "parts": [{"name": n, "status": s, "seconds": int(t), "note": note}
                        for n, s, t, note in rows_of(text_of(work, "parts"))],
              "training": {"data": text_of(work, "dataset").strip(), "models": {}},
              "sanitizers": dict(rows_of(text_of(data, "sanitizer")))}
    same = text_of(data, "same-bytes").split()
    for model in MODELS:
        runs = {}
        for mode in ("cpu", "exact", "default"):
            lines = json_lines(text_of(data, "train-%s-%s.jsonl" % (model, mode)))
            if len(lines) > 1:
                runs[mode] = {key: lines[-1].get(key) for key in
                              ("epoch", "train_loss", "validation_accuracy", "samples_per_second", "fingerprint")}
        if runs:
            compared = "cpu" in runs and "exact" in runs
            result["training"]["models"][model] = dict(runs, same_bytes=model in same if compared else None)
    result["bench_train"] = json_lines(text_of(data, "bench_train"))
    result["bench_train_again"] = json_lines(text_of(data, "bench_train_again"))
    result["torch_train"] = json_lines(text_of(data, "torch_train"))
    result["bench_activations"] = json_whole(text_of(data, "bench_activations"))
    result["torch_activations"] = json_whole(text_of(data, "torch_activations"))
    return result


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in [head] + rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)) +
             " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")
    return lines


def training_section(result):
    rows = []
    for model, runs in result["training"]["models"].items():
        def of(mode, key, form):
            value = runs.get(mode, {}).get(key)
            return "–" if value is None else form % value

        rows.append([model] + ["%s" % of(mode, "validation_accuracy", "%.4f") for mode in ("cpu", "exact", "default")] +
                    [of("cpu", "fingerprint", "%s"), of("exact", "fingerprint", "%s"),
                     {True: "same", False: "DIFFER", None: "not compared"}[runs["same_bytes"]]])
    if not rows:
        return []
    return ["", "## Training on %s%s" % (result["training"]["data"], ", simulated device" * result["simulated"]), ""] + table(
        ["model", "accuracy: CPU", "exact", "default", "fingerprint: CPU", "exact", "files, CPU and exact"], rows)


def speed_section(result):
    def ours(lines, model, precision):
        for line in lines:
            if line.get("model") == model and line.get("precision") == precision:
                return line
        return {}

    def cell(value):
        return "–" if value is None else "%.1f" % value

    peers = {}  # model: word: µs, the best of the modes with that word
    failed = []
    for line in result["torch_train"]:
        mode = line.get("mode", "").split("+")
        word = mode[0] + (" tf32" if "tf32" in mode else "")
        if "failed" in line:
            failed.append("%s %s: %s" % (line.get("model", ""), line.get("mode", "PyTorch"), line["failed"][:90]))
        elif line.get("us_per_step"):
            best = peers.setdefault(line["model"], {})
            best[word] = min(line["us_per_step"], best.get(word, float("inf")))
    words = ["eager", "graph", "compile", "reduce", "graph tf32"]
    rows = []
    for model in MODELS:
        strict = ours(result["bench_train"], model, "fp32")
        if not strict:
            continue
        again = ours(result["bench_train_again"], model, "fp32")
        times = [line["us_per_step"] for line in (strict, again) if line]
        best = [us for word, us in peers.get(model, {}).items() if "tf32" not in word]
        rows.append([model, strict["batch"], strict.get("launches_per_step", "–"), cell(strict["us_per_step"]),
                     cell(again.get("us_per_step")), cell(ours(result["bench_train"], model, "exact").get("us_per_step")),
                     cell(ours(result["bench_train"], model, "tf32").get("us_per_step")),
                     cell(ours(result["bench_train"], model, "bf16").get("us_per_step"))] +
                    [cell(peers.get(model, {}).get(word)) for word in words] +
                    ["%.2f" % (min(best) / statistics.mean(times)) if best and not result["simulated"] else "–"])
    if not rows:
        return []
    lines = ["", "## A training step in µs%s" % (", simulated: the times mean nothing" * result["simulated"]), "",
             "Slope in fp32, once more after PyTorch, exact, TF32, BF16; PyTorch's forms (strict float32, then TF32); last, PyTorch's "
             "best strict form over Slope's mean." + " PyTorch ran on the CPU here." * result["simulated"], ""]
    lines += table(["model", "batch", "launches", "fp32", "again", "exact", "tf32", "bf16"] + words + ["faster by"], rows)
    if failed:
        lines += ["", "PyTorch could not: " + "; ".join(failed[:6]) + (" …" if len(failed) > 6 else "")]
    return lines


def activation_section(result):
    ours, peer = result["bench_activations"], result["torch_activations"]
    if not ours.get("activations"):
        return []
    theirs = {row["name"]: row for row in peer.get("activations", [])}
    forms = ("value", "slope", "bias_value_fused", "bias_value_unfused", "slope_bias_fused", "slope_bias_unfused")
    rows, slow = [], []
    best = max(ours["copy"]["gb_per_second"], peer.get("copy", {}).get("gb_per_second", 0))
    for row in ours["activations"]:
        cells = ["%.0f (%.0f)" % (row[f]["gb_per_second"], 100 * row[f]["of_copy"]) for f in forms]
        other = theirs.get(row["name"], {})
        cells += ["%.0f" % other[f]["gb_per_second"] if f in other else "–"
                  for f in ("value", "slope", "bias_value", "slope_bias")]
        rows.append([row["name"]] + cells)
        slow += ["%s %s" % (row["name"], f) for f in ("value", "slope", "bias_value_fused", "slope_bias_fused")
                 if row[f]["gb_per_second"] < 0.85 * best]
    lines = ["", "## Activations in GB/s (and %% of the copy), %d elements%s" % (
        ours["elements"], ", simulated: the times mean nothing" * result["simulated"]), "",
        "Copy: Slope %.0f (%.0f to %.0f)%s." % (ours["copy"]["gb_per_second"], ours["copy"]["lowest"], ours["copy"]["highest"],
                                               ", PyTorch %.0f" % peer["copy"]["gb_per_second"] if peer.get("copy") else ""), ""]
    lines += table(["activation", "value", "slope", "bias+value", "in two", "slope+bias", "in two", "PyTorch: value", "slope",
                    "bias+value", "slope+bias"], rows)
    if not result["simulated"]:
        lines += ["", "Below 85 % of the faster copy: " + (", ".join(slow) if slow else "none") + "."]
    return lines


def sanitizer_section(result):
    found = result["sanitizers"]
    if not found:
        return []
    others = ["%s: %s" % item for item in sorted(found.items()) if item[1] != "clean"]
    clean = sum(status == "clean" for status in found.values())
    return ["", "## compute-sanitizer", "", "%d of %d runs clean%s" % (
        clean, len(found), "; " + "; ".join(others) if others else "")]


def failure_section(result, work, room):
    failed = [part["name"] for part in result["parts"] if part["status"] == "FAILED"]
    lines = []
    for name in failed:
        log = text_of(work, "logs", name)
        log = re.sub(r"(?m)^.*(Passed|PASSED|\[ +(OK|RUN) +\]).*\n", "", log)  # what went well
        tail = log[-max(300, min(1500, room // max(1, len(failed)) - 100)):].strip()
        if tail:
            lines += ["", "## The end of %s" % name, "", "```", tail, "```"]
    return lines


def main():
    work, out = sys.argv[1:3]
    simulated = sys.argv[3:] == ["simulated"]
    result = collect(work, simulated)
    failed = [part["name"] for part in result["parts"] if part["status"] == "FAILED"]
    skipped = [part["name"] for part in result["parts"] if part["status"] == "skipped"]
    result["passed"] = not failed
    verdict = "FAILED: " + ", ".join(failed) if failed else "all that was run passed"
    if skipped:
        verdict += "; skipped: " + ", ".join(skipped)
    lines = ["# Slope on %s" % ("the simulated device" if simulated else result["machine"].get("device", "?")), "",
             "**%s%s**" % ("Simulated: " if simulated else "", verdict), ""]
    lines += ["- %s: %s" % item for item in result["machine"].items()]
    rest = training_section(result) + speed_section(result) + activation_section(result) + sanitizer_section(result)
    rest += ["", "## Parts%s" % (", simulated device" * simulated), ""]
    rest += ["- %s: %s, %d s%s" % (p["name"], p["status"], p["seconds"], "; " + p["note"][:200] if p["note"] else "")
             for p in result["parts"]]
    room = LONGEST - len("\n".join(lines + rest))
    lines += failure_section(result, work, room) + rest + ["", "**%s**" % verdict]
    summary = "\n".join(lines) + "\n"
    if simulated:  # a message in a log may name what was not there
        summary = summary.replace("GPU", "device")
    with open(os.path.join(out, "results.json"), "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    with open(os.path.join(out, "summary.md"), "w") as file:
        file.write(summary)
    print(summary, end="")


if __name__ == "__main__":
    main()
