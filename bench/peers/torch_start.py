#!/usr/bin/env python3
"""The first training step of a workload in PyTorch, for bench_start: from the start of the process.

    bench_start "python3 bench/peers/torch_start.py --model mlp"

Prints CLOCK_MONOTONIC in nanoseconds when the step is done, and the most memory the process has held (VmHWM, KiB).
The step is eager, on random images, with the optimiser's fused or foreach form where there is one: nothing is
compiled or traced, which would take longer than the step saves.
"""

import argparse
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--model", choices=("softmax", "mlp", "lenet", "cnn", "cnn-plain"), default="mlp")
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ.pop("OPENBLAS_CORETYPE", None)

import torch  # noqa: E402  the environment comes first

import torch_train  # noqa: E402  beside this file

torch.set_num_threads(args.threads)
torch.manual_seed(1)
net = torch_train.network(torch.nn, args.model)
optimizer = torch_train.make_optimizer(torch, args.model, net, ["fused"])
images = torch.rand(args.batch, 1, torch_train.PIXELS, torch_train.PIXELS)
labels = torch.randint(0, 10, (args.batch,))
loss = torch.nn.functional.cross_entropy(net(images), labels)
loss.backward()
optimizer.step()
loss.item()

now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
with open("/proc/self/status") as status:
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
print(now, peak)
