#!/usr/bin/env python3
"""The activations of bench_activations.c in PyTorch: GB/s on arrays far larger than the caches, beside a copy.

    torch_activations.py [--device cpu|cuda] [--elements N] [--rounds N] [--threads N] [--form eager|compile]
                         [--budget SECONDS] [PART OF A NAME]

Prints one JSON object. Bytes are counted as there: value 8 an element (x in, y out), slope 12 (dy and x or y in, dx
out), copy 8. "bias_value" is f(x + b), "slope_bias" the gradients of x and b of it, counted as one pass, so that a
ratio of rates is a ratio of times: 8 and 12. --form compile sends each function through torch.compile. What fails is
named under "failed" and the others go on.
"""

import argparse
import json
import os
import statistics
import time

CHANNELS = 128


def functions(torch):
    f = torch.nn.functional
    return {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": f.leaky_relu,
        "elu": f.elu,
        "selu": f.selu,
        "softplus": f.softplus,
        "softsign": f.softsign,
        "swish": f.silu,
        "gelu": f.gelu,
        "gelu_tanh": lambda x: f.gelu(x, approximate="tanh"),
        "mish": f.mish,
        "hard_sigmoid": f.hardsigmoid,
        "hard_swish": f.hardswish,
        "hard_tanh": f.hardtanh,
        "relu6": f.relu6,
    }


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--elements", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--form", choices=("eager", "compile"), default="eager")
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("part", nargs="?", default="")
    return parser.parse_args()


class Timer:
    def __init__(self, torch, cuda):
        self.wait = torch.cuda.synchronize if cuda else lambda: None
        self.least = 0.004 if cuda else 0.02

    def seconds(self, run, repeats):
        self.wait()
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        self.wait()
        return (time.perf_counter() - start) / repeats

    def repeats(self, run):
        for _ in range(2):
            run()
        return max(1, round(self.least / self.seconds(run, 1)))


def jobs_of(torch, args, f, x, y, bias, dy):
    """name: (what to run, bytes an element)"""
    compiled = torch.compile if args.form == "compile" else lambda function: function
    value, biased = compiled(f), compiled(lambda x, b: f(x + b))
    xg, bg = x.clone().requires_grad_(), bias.clone().requires_grad_()
    out, biased_out = value(xg), biased(xg, bg)

    def run_value():
        with torch.no_grad():
            value(x)

    def run_bias_value():
        with torch.no_grad():
            biased(x, bias)

    def run_slope():
        torch.autograd.grad(out, xg, dy, retain_graph=True)

    def run_slope_bias():
        torch.autograd.grad(biased_out, (xg, bg), dy, retain_graph=True)

    return {"value": (run_value, 8), "slope": (run_slope, 12), "bias_value": (run_bias_value, 8),
            "slope_bias": (run_slope_bias, 12), "copy": (lambda: y.copy_(x), 8)}


def measure(torch, args, timer, f, tensors):
    count = tensors[0].numel()
    jobs = jobs_of(torch, args, f, *tensors)
    repeats = {name: timer.repeats(run) for name, (run, _) in jobs.items()}
    rates = {name: [] for name in jobs}
    for _ in range(args.rounds):
        for name, (run, size) in jobs.items():
            rates[name].append(size * 1e-9 * count / timer.seconds(run, repeats[name]))
    figures = {}
    for name in jobs:
        figures[name] = {"gb_per_second": round(statistics.median(rates[name]), 2), "lowest": round(min(rates[name]), 2),
                         "highest": round(max(rates[name]), 2)}
        if name != "copy":
            ratios = [a / b for a, b in zip(rates[name], rates["copy"])]
            figures[name]["of_copy"] = round(statistics.median(ratios), 4)
    return figures


def main():
    started = time.monotonic()
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    try:
        import torch
    except (ImportError, OSError) as error:
        print(json.dumps({"failed": {"all": "import torch: " + str(error)[:300]}}))
        return

    cuda = args.device == "cuda"
    result = {"framework": "pytorch " + torch.__version__, "form": args.form, "rounds": args.rounds, "activations": [],
              "failed": {}}
    try:
        result["device"] = torch.cuda.get_device_name() if cuda else "cpu, %d threads" % args.threads
        torch.set_num_threads(args.threads)
        torch.manual_seed(1)
        count = (args.elements or (64 if cuda else 16) << 20) // CHANNELS * CHANNELS
        result["elements"] = count
        shape = (count // CHANNELS, CHANNELS)
        x, y, dy = (torch.rand(shape, device=args.device) * 8 - 4 for _ in range(3))
        tensors = x, y, torch.rand(CHANNELS, device=args.device), dy
        timer = Timer(torch, cuda)
        copies = []
        for name, f in functions(torch).items():
            if args.part not in name:
                continue
            try:
                if time.monotonic() - started > args.budget:
                    raise RuntimeError("not tried: the time was up")
                figures = measure(torch, args, timer, f, tensors)
                copies.append(figures.pop("copy")["gb_per_second"])
                result["activations"].append(dict(name=name, **figures))
            except Exception as error:  # whatever the compiler or a library throws
                result["failed"][name] = (type(error).__name__ + ": " + str(error)).splitlines()[0][:300]
        if copies:
            result["copy"] = {"gb_per_second": round(statistics.median(copies), 2), "lowest": min(copies),
                              "highest": max(copies)}
    except Exception as error:
        result["failed"]["all"] = (type(error).__name__ + ": " + str(error)).splitlines()[0][:300]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
