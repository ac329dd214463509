#!/usr/bin/env python3
"""The workloads of bench_train.c in PyTorch, as fast as it will go.

    torch_train.py [--device cpu|cuda] [--model softmax|mlp|lenet|cnn|cnn-plain] [--batch N] [--steps N]
                   [--threads N] [--rounds N] [--mode MODE[,MODE…]] [--budget SECONDS]
    torch_train.py [--device cpu|cuda] --modes      the modes that this PyTorch can try

Prints one JSON object a line: the samples a second of each round, or "failed" and why; a mode that fails does not
stop the others. Images lie on the device as float32, an epoch's order is a random permutation, a batch is gathered
by index_select. The loss of every step is added up without reading it; the sum is read once a round, which waits for
the device.

A mode is words joined by "+":
    eager     plain
    trace     torch.jit.trace
    compile   torch.compile(fullgraph) of forward and loss
    reduce    torch.compile(mode="reduce-overhead"): the same, replayed as CUDA graphs
    graph     torch.cuda.CUDAGraph: the whole step, gathering and optimiser too, captured once and replayed
    last      channels_last images and weights
    fused     the optimiser's fused kernel, else its foreach form
    tf32      products in TF32; without it strict float32, convolutions too
    spin      OpenMP workers spin between regions; without it GOMP_SPINCOUNT=0
    one       a single thread, whatever --threads says
    blas      as many OpenBLAS threads as --threads; without it one
The last three set the environment before torch is imported, because the libraries read it then: they are taken from
the first mode. --budget: no mode is begun later than that.
"""

import argparse
import json
import os
import time

PIXELS = 28
WORKLOADS = {  # batch, batches of an epoch on the CPU and on CUDA
    "softmax": (128, 468, 468),
    "mlp": (128, 468, 468),
    "lenet": (64, 300, 468),
    "cnn": (128, 12, 234),
    "cnn-plain": (128, 12, 234),
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", choices=WORKLOADS)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", default="eager+fused")
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("--modes", action="store_true")
    return parser.parse_args()


def set_environment(args):
    words = args.mode.split(",")[0].split("+")
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
    if model == "softmax":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
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
        if model in ("softmax", "mlp"):
            return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, **options)
        if "graph" in words:
            options["capturable"] = True
        return torch.optim.Adam(net.parameters(), lr=1e-3, **options)

    if "fused" in words:
        for options in {"fused": True}, {"foreach": True}:
            try:
                return make(**options)
            except (TypeError, RuntimeError, ValueError):  # older versions have neither, or only on CUDA
                pass
    return make()


def set_tf32(torch, wanted):
    torch.backends.cuda.matmul.allow_tf32 = wanted
    torch.backends.cudnn.allow_tf32 = wanted


class Training:
    """One network, its data on the device, and an epoch as a function."""

    def __init__(self, torch, args, model, words):
        self.torch = torch
        cuda = args.device == "cuda"
        batch, cpu_steps, cuda_steps = WORKLOADS[model]
        self.batch = args.batch or batch
        self.steps = args.steps or (cuda_steps if cuda else cpu_steps)
        torch.manual_seed(1)
        set_tf32(torch, "tf32" in words)
        torch.backends.cudnn.benchmark = True
        self.last = "last" in words
        self.flat = torch.rand(self.batch * self.steps, PIXELS * PIXELS, device=args.device)
        self.labels = torch.randint(0, 10, (self.batch * self.steps,), device=args.device)
        self.order = torch.randperm(self.batch * self.steps, device=args.device)
        self.total = torch.zeros((), device=args.device)
        self.net = network(torch.nn, model).train().to(args.device)
        if self.last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(torch, model, self.net, words)
        self.forward = self.loss_of
        if "compile" in words:
            self.forward = torch.compile(self.loss_of, fullgraph=True, dynamic=False)
        elif "reduce" in words:
            if not cuda:
                raise RuntimeError("reduce-overhead needs CUDA: the CPU has no graphs")
            self.forward = torch.compile(self.loss_of, fullgraph=True, dynamic=False, mode="reduce-overhead")
        elif "trace" in words:
            first = self.gather(self.order[:self.batch])[0]
            traced = torch.jit.trace(self.net, first, check_trace=False)
            self.forward = lambda x, t: torch.nn.functional.cross_entropy(traced(x), t)
        self.graph = None
        if "graph" in words:
            if not cuda:
                raise RuntimeError("a CUDA graph needs CUDA")
            self.capture()

    def loss_of(self, x, t):
        return self.torch.nn.functional.cross_entropy(self.net(x), t)

    def gather(self, index):  # one channel: the same memory is channels first and last
        x = self.torch.index_select(self.flat, 0, index).view(self.batch, 1, PIXELS, PIXELS)
        if self.last:
            x = x.contiguous(memory_format=self.torch.channels_last)
        return x, self.torch.index_select(self.labels, 0, index)

    def step(self, index):
        x, t = self.gather(index)
        loss = self.forward(x, t)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def whole_step(self):
        """The batch's place in the order is a number on the device, so that a replay needs nothing from the host."""
        self.step(self.torch.index_select(self.order, 0, self.position + self.offsets))
        self.position += self.batch

    def capture(self):
        torch = self.torch
        self.position = torch.zeros((), dtype=torch.int64, device=self.order.device)
        self.offsets = torch.arange(self.batch, device=self.order.device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # cuDNN, cuBLAS and the allocator settle before the capture
            for _ in range(3):
                self.position.zero_()
                self.whole_step()
        torch.cuda.current_stream().wait_stream(side)
        self.position.zero_()
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.whole_step()

    def epoch(self):
        torch = self.torch
        self.total.zero_()
        self.order.copy_(torch.randperm(self.batch * self.steps, device=self.order.device))
        if self.graph:
            self.position.zero_()
            for _ in range(self.steps):
                self.graph.replay()
        else:
            for i in range(self.steps):
                self.step(self.order[i * self.batch:(i + 1) * self.batch])
        return float(self.total) / self.steps


def measure(torch, args, model, mode):
    words = mode.split("+")
    training = Training(torch, args, model, words)
    rates = []
    for round_ in range(args.rounds + 1):
        start = time.perf_counter()
        loss = training.epoch()
        if round_ > 0:
            rates.append(training.batch * training.steps / (time.perf_counter() - start))
    if loss != loss:
        raise RuntimeError("the loss is NaN")
    median = sorted(rates)[len(rates) // 2]
    return {"batch": training.batch, "us_per_step": round(1e6 * training.batch / median, 2),
            "samples_per_second": [round(r) for r in rates]}


def modes(torch, args):
    base = ["eager+fused", "eager+fused+last", "trace+fused", "trace+fused+last"]
    if hasattr(torch, "compile"):
        base += ["compile+fused", "compile+fused+last"]
    if args.device == "cuda":
        base += ["graph+fused", "graph+fused+last"]
        if hasattr(torch, "compile"):
            base += ["reduce+fused"]
    else:
        base += ["eager+fused+spin", "eager+fused+blas", "eager+fused+one"]
    print("\n".join(base))


def main():
    started = time.monotonic()
    args = arguments()
    set_environment(args)
    try:
        import torch
    except (ImportError, OSError) as error:
        print(json.dumps({"failed": "import torch: " + str(error)[:300]}))
        return

    torch.set_num_threads(args.threads)
    if args.modes:
        modes(torch, args)
        return
    for model in [args.model] if args.model else WORKLOADS:
        for mode in args.mode.split(","):
            line = {"framework": "pytorch " + torch.__version__, "device": args.device, "mode": mode,
                    "threads": args.threads, "model": model}
            try:
                if time.monotonic() - started > args.budget:
                    raise RuntimeError("not tried: the time was up")
                if args.device == "cuda" and not torch.cuda.is_available():
                    raise RuntimeError("this PyTorch sees no CUDA device")
                if args.device == "cuda":
                    line["device"] = torch.cuda.get_device_name()
                line.update(measure(torch, args, model, mode))
            except Exception as error:  # whatever the compiler or a library throws
                line["failed"] = (type(error).__name__ + ": " + str(error)).splitlines()[0][:300]
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
