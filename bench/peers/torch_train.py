#!/usr/bin/env python3
"""The workloads of bench_train.c in PyTorch on the CPU, as fast as it will go.

    torch_train.py [--model mlp|lenet|cnn|cnn-plain] [--threads N] [--rounds N] [--mode MODE]
    torch_train.py --modes            the modes that this PyTorch can try

Prints one JSON object a line: the samples a second of each round. Images lie in memory as float32, an epoch's order
is a random permutation, a batch is gathered by index_select. The loss of every step is added up without reading it.

A mode is words joined by "+":
    eager | trace | compile   plain; torch.jit.trace; torch.compile(fullgraph) of forward and loss
    last                      channels_last images and weights
    fused                     the optimiser's fused kernel, else its foreach form
    spin                      OpenMP workers spin between regions; without it GOMP_SPINCOUNT=0
    one                       a single thread, whatever --threads says
    blas                      as many OpenBLAS threads as --threads; without it one
The environment is set before torch is imported, because the libraries read it then.
"""

import argparse
import json
import os
import time

PIXELS = 28
WORKLOADS = {  # batch, batches of an epoch
    "mlp": (128, 468),
    "lenet": (64, 300),
    "cnn": (128, 12),
    "cnn-plain": (128, 12),
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=WORKLOADS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", default="eager+fused")
    parser.add_argument("--modes", action="store_true")
    return parser.parse_args()


def set_environment(args):
    words = args.mode.split("+")
    if "one" in words:
        args.threads = 1
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads) if "blas" in words else "1"
    os.environ.pop("OPENBLAS_CORETYPE", None)
    if "spin" in words:
        os.environ.pop("GOMP_SPINCOUNT", None)
        os.environ["OMP_WAIT_POLICY"] = "active"
    else:
        os.environ["GOMP_SPINCOUNT"] = "0"


def network(nn, model):
    if model == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    if model == "lenet":
        return nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(),
                             nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))
    if model == "cnn-plain":
        return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                             nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10))
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64),
                         nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128),
                         nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


def make_optimizer(torch, model, net, words):
    def make(**options):
        if model == "mlp":
            return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, **options)
        return torch.optim.Adam(net.parameters(), lr=1e-3, **options)

    if "fused" in words:
        for options in {"fused": True}, {"foreach": True}:
            try:
                return make(**options)
            except (TypeError, RuntimeError, ValueError):  # older versions have neither, or only on CUDA
                pass
    return make()


def measure(args, model):
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    words = args.mode.split("+")
    batch, batches = WORKLOADS[model]
    flat = torch.rand(batch * batches, PIXELS * PIXELS)
    labels = torch.randint(0, 10, (batch * batches,))
    net = network(torch.nn, model).train()
    if "last" in words:
        net = net.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(torch, model, net, words)

    def loss_of(x, t):
        return torch.nn.functional.cross_entropy(net(x), t)

    def gather(index):  # one channel: the same memory is channels first and last
        x = torch.index_select(flat, 0, index).view(batch, 1, PIXELS, PIXELS)
        if "last" in words:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, torch.index_select(labels, 0, index)

    forward = loss_of
    if "compile" in words:
        forward = torch.compile(loss_of, fullgraph=True, dynamic=False)
    elif "trace" in words:
        traced = torch.jit.trace(net, gather(torch.arange(batch))[0], check_trace=False)
        forward = lambda x, t: torch.nn.functional.cross_entropy(traced(x), t)

    def epoch():
        total = torch.zeros(())
        order = torch.randperm(batch * batches)
        for i in range(batches):
            x, t = gather(order[i * batch:(i + 1) * batch])
            loss = forward(x, t)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return float(total) / batches

    rates = []
    for round_ in range(args.rounds + 1):
        start = time.perf_counter()
        epoch()
        if round_ > 0:
            rates.append(batch * batches / (time.perf_counter() - start))
    print(json.dumps({"framework": "pytorch " + torch.__version__, "mode": args.mode, "threads": args.threads,
                      "model": model, "batch": batch, "samples_per_second": [round(r) for r in rates]}), flush=True)


def modes():
    import torch

    base = ["eager+fused", "eager+fused+last", "trace+fused", "trace+fused+last"]
    if hasattr(torch, "compile"):
        base += ["compile+fused", "compile+fused+last"]
    for mode in base + ["eager+fused+spin", "eager+fused+blas", "eager+fused+one"]:
        print(mode)


def main():
    args = arguments()
    set_environment(args)
    if args.modes:
        modes()
        return
    for model in [args.model] if args.model else WORKLOADS:
        measure(args, model)


main()
