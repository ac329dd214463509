#!/usr/bin/env python3
"""Makes the golden files of tests/test_golden*.c with PyTorch, in double precision.

    python3 make_golden.py [folder]        (default: the script's own folder)

The committed files come from PyTorch 2.15.0 with NumPy 2.4.6 (the metadata of each file names its versions). PyTorch
1.13 gives the same numbers to rounding, except for hard_swish at ±3, where old versions used the slope of the middle.

Inputs and weights are not stored. Both sides compute them from their names (`values`), as multiples of 2^-16, so that
they are the same numbers in single and in double precision. What PyTorch makes of them is stored as F64. A tensor of
more than 2048 elements is stored as 1024 samples, and as four sums with signs and sizes drawn from its name
("<tensor>#"), to which every element contributes.

Everything is written in Slope's layout: images [n, height, width, channels], weights [in, out], kernels [height, width,
in, out], flattened in the order height, width, channel. The leaf tensors have this layout and are turned round inside
the differentiated function, so the gradients arrive in it too. Options such as rates and epsilons are single precision
in Slope, hence the f32() around them.
"""

import json
import math
import os
import struct
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)

MOST = 2048  # elements of a tensor that is stored whole
SAMPLES = 1024


def f32(x):
    return float(np.float32(x))


def values(name, count):
    """`count` numbers in [-1, 1), multiples of 2^-15: FNV-1a of the name, then Murmur3's finaliser of each index."""
    h = 2166136261
    for byte in name.encode():
        h = (h ^ byte) * 16777619 & 0xFFFFFFFF
    v = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(h)
    v ^= v >> np.uint32(16)
    v *= np.uint32(0x85EBCA6B)
    v ^= v >> np.uint32(13)
    v *= np.uint32(0xC2B2AE35)
    v ^= v >> np.uint32(16)
    return ((v >> np.uint32(16)).astype(np.float64) - 32768) / 32768


def parameter(name, shape):
    """The value of a parameter or statistic; a power of two keeps the sums over its fan-in near 1."""
    count = math.prod(shape)
    v = values(name, count)
    layer, _, what = name.rpartition(".")
    if what == "running_var" or (what == "weight" and "norm" in layer):
        v = 1 + 0.5 * v
    else:
        size = 0.5
        while size * size * (count // shape[-1]) > 2:
            size /= 2
        v = size * v
    return torch.tensor(v.reshape(shape), requires_grad=True)


class File:
    def __init__(self):
        self.tensors = {}

    def put(self, name, tensor):
        if isinstance(tensor, torch.Tensor):
            tensor = tensor.detach().numpy()
        tensor = np.ascontiguousarray(tensor)
        if tensor.dtype != np.int32:
            tensor = tensor.astype(np.float64)
        assert np.isfinite(tensor).all(), name
        if tensor.size > MOST:
            flat = tensor.reshape(-1)
            sums = [(flat * values(f"{name}#{k}", flat.size)).sum() for k in range(4)]
            self.put(name + "#", np.array(sums))
            tensor = flat[np.arange(SAMPLES) * 7919 % flat.size]
        assert name not in self.tensors, name
        self.tensors[name] = tensor.reshape(-1)

    def write(self, path):
        header = {"__metadata__": {"maker": f"PyTorch {torch.__version__}, NumPy {np.__version__}"}}
        data = b""
        for name, t in sorted(self.tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
            kind = {np.dtype(np.float64): "F64", np.dtype(np.int32): "I32"}[t.dtype]
            header[name] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [len(data), len(data) + t.nbytes]}
            data += t.astype(t.dtype.newbyteorder("<")).tobytes()
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text + data)
        print(f"{path}: {len(self.tensors)} tensors, {8 + len(text) + len(data)} bytes")


class Case:
    """One case of a file: makes leaves by name and writes what comes out."""

    def __init__(self, file, name, shape, scale=2.0, shift=0.0):
        self.file, self.name, self.leaves = file, name, {}
        file.put(name + ".shape", np.array(shape, dtype=np.int32))
        file.put(name + ".range", np.array([scale, shift]))
        x = values(name + ".x", math.prod(shape)).reshape(shape) * scale + shift
        self.x = torch.tensor(x, requires_grad=True)

    def p(self, name, *shape):
        if name not in self.leaves:
            self.leaves[name] = parameter(f"{self.name}.{name}", shape)
        return self.leaves[name]

    def finish(self, y, of_x=True):
        """Stores y and the gradients of Σ y·dy, with dy = values("<case>.dy"); for a loss, dy = 1."""
        dy = torch.tensor(values(self.name + ".dy", y.numel())).reshape(y.shape) if y.dim() else torch.ones_like(y)
        (y * dy).sum().backward()
        self.file.put(self.name + ".y", y)
        if of_x:
            self.file.put(self.name + ".dx", self.x.grad)
        for name, leaf in self.leaves.items():
            if leaf.grad is not None:
                self.file.put(f"{self.name}.d {name}", leaf.grad)


# --- layers, channels last -------------------------------------------------------------------------------------------


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def dense(c, x, name, units, bias=None):
    x = x.reshape(x.shape[0], -1)
    y = x @ c.p(name + ".weight", x.shape[1], units)
    return y if bias == 0 else y + c.p(name + ".bias", bias or units)


def conv(c, x, name, filters, kernel, **options):
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    w = c.p(name + ".weight", *kernel, x.shape[3], filters).permute(3, 2, 0, 1)
    return nhwc(F.conv2d(nchw(x), w, c.p(name + ".bias", filters), **options))


def norm(c, x, name, training, momentum=0.1, eps=1e-5, stats=None):
    channels = x.shape[-1]
    mean, var = (c.p(f"{name}.running_{s}", channels).detach().clone() for s in ("mean", "var"))
    flat = x.reshape(-1, channels)
    y = F.batch_norm(flat, mean, var, c.p(name + ".weight", channels), c.p(name + ".bias", channels), training,
                     f32(momentum), f32(eps))
    for s in ("mean", "var"):
        del c.leaves[f"{name}.running_{s}"]
    if stats is not None:
        stats.update(mean=mean, var=var)
    return y.reshape(x.shape)


def max_pool(x, kernel, margin=None, **options):
    y = nhwc(F.max_pool2d(nchw(x), kernel, **options))
    if margin is not None:  # the two largest of a window must not change places in single precision
        n, h, w, ch = x.shape
        top = x.reshape(n, h // 2, 2, w // 2, 2, ch).permute(0, 1, 3, 5, 2, 4).reshape(-1, 4).topk(2, 1).values
        margin.append(float((top[:, 0] - top[:, 1]).detach().min()))
    return y


def make_layers():
    file = File()

    def case(name, shape, make, **options):
        c = Case(file, name, shape, **options)
        c.finish(make(c, c.x))

    case("dense", (5, 7), lambda c, x: dense(c, x, "dense1", 4))
    case("dense image", (3, 3, 2, 5), lambda c, x: dense(c, x, "dense1", 6))
    case("dense wide", (37, 75), lambda c, x: dense(c, x, "dense1", 130))
    case("dense deep", (2, 1100), lambda c, x: dense(c, x, "dense1", 3))
    case("dense one", (1, 1), lambda c, x: dense(c, x, "dense1", 1))
    case("dense no bias", (4, 9), lambda c, x: dense(c, x, "dense1", 10, 0))
    case("dense shared bias", (4, 9), lambda c, x: dense(c, x, "dense1", 10, 1))

    case("conv", (2, 7, 6, 3), lambda c, x: conv(c, x, "conv1", 4, 3))
    case("conv oblong", (2, 9, 8, 2), lambda c, x: conv(c, x, "conv1", 5, (5, 3), stride=(2, 1), padding=(2, 1)))
    case("conv dilated", (3, 9, 7, 3), lambda c, x: conv(c, x, "conv1", 4, 3, padding=2, dilation=2))
    case("conv point", (2, 5, 4, 6), lambda c, x: conv(c, x, "conv1", 7, 1, stride=2))
    case("conv lenet1", (3, 13, 12, 1), lambda c, x: conv(c, x, "conv1", 8, 5))
    case("conv lenet2", (2, 12, 12, 8), lambda c, x: conv(c, x, "conv1", 16, 5))
    case("conv even", (2, 10, 11, 2),
         lambda c, x: conv(c, x, "conv1", 3, 4, stride=3, padding=3, dilation=(1, 2)))
    case("conv padded", (2, 9, 9, 16), lambda c, x: conv(c, x, "conv1", 32, 3, padding=1))
    case("conv padded one", (2, 9, 10, 1), lambda c, x: conv(c, x, "conv1", 33, 3, padding=1))
    case("conv far stride", (1, 11, 11, 2), lambda c, x: conv(c, x, "conv1", 3, 2, stride=4))

    case("max pool", (2, 6, 8, 3), lambda c, x: max_pool(x, 2))
    case("max pool odd", (2, 7, 5, 9), lambda c, x: max_pool(x, 2))
    case("max pool overlapping", (2, 7, 6, 3), lambda c, x: max_pool(x, 3, stride=2, padding=1))
    case("max pool oblong", (3, 5, 4, 2), lambda c, x: max_pool(x, (3, 2), stride=(2, 1), padding=(1, 0)))
    case("max pool ties", (2, 6, 5, 2), lambda c, x: max_pool(x, 3, stride=1), scale=0.0, shift=0.5)
    case("avg pool", (2, 6, 8, 3), lambda c, x: nhwc(F.avg_pool2d(nchw(x), 2)))
    case("avg pool padded", (2, 7, 6, 3),
         lambda c, x: nhwc(F.avg_pool2d(nchw(x), 3, stride=2, padding=1, count_include_pad=True)))
    case("avg pool oblong", (3, 5, 4, 2), lambda c, x: nhwc(F.avg_pool2d(nchw(x), (3, 2), (2, 1), (1, 1))))
    case("global avg pool", (3, 5, 4, 7), lambda c, x: F.adaptive_avg_pool2d(nchw(x), 1).reshape(3, 7))

    case("norm rows", (6, 5), lambda c, x: norm(c, x, "norm1", True))
    case("norm images", (3, 4, 5, 7), lambda c, x: norm(c, x, "norm1", True))
    case("norm many", (4, 17, 19, 3), lambda c, x: norm(c, x, "norm1", True))
    case("norm keras", (5, 3, 3, 4), lambda c, x: norm(c, x, "norm1", True, 0.01, 1e-3))
    case("norm far", (9, 3, 3, 2), lambda c, x: norm(c, x, "norm1", True), scale=1.0, shift=64.0)
    case("norm evaluated rows", (6, 5), lambda c, x: norm(c, x, "norm1", False))
    case("norm evaluated", (3, 4, 5, 7), lambda c, x: norm(c, x, "norm1", False))
    case("norm evaluated keras", (5, 3, 3, 4), lambda c, x: norm(c, x, "norm1", False, 0.01, 1e-3))

    case("residual", (2, 6, 5, 3),
         lambda c, x: x + conv(c, torch.tanh(conv(c, x, "conv1", 4, 3, padding=1)), "conv2", 3, 3, padding=1))
    case("dropout evaluated", (4, 6), lambda c, x: F.dropout(x, 0.5, training=False))
    case("softmax", (4, 10), lambda c, x: torch.softmax(x, -1))
    case("softmax steep", (3, 5), lambda c, x: torch.softmax(x, -1), scale=16384.0)
    case("softmax images", (2, 3, 4, 37), lambda c, x: torch.softmax(x, -1))
    case("log softmax", (4, 10), lambda c, x: torch.log_softmax(x, -1))
    case("log softmax steep", (3, 5), lambda c, x: torch.log_softmax(x, -1), scale=16384.0)

    # One step of training: SGD with rate 1 on ½Σ(y - t)², batch norm's statistics, weights and bias after it.
    for name, shape in ("step of norm", (5, 3, 2, 4)), ("step of norm rows", (7, 3)):
        c = Case(file, name, shape)
        after = {}
        y = norm(c, c.x, "norm1", True, stats=after).reshape(shape[0], -1)
        t = torch.tensor(values(name + ".t", y.numel())).reshape(y.shape)
        (0.5 * (y - t).square().sum() / shape[0]).backward()
        for s in "mean", "var":
            file.put(f"{name}.norm1.running_{s}", after[s])
        for p in "weight", "bias":
            leaf = c.leaves["norm1." + p]
            file.put(f"{name}.norm1.{p}", leaf - leaf.grad)
    return file


# --- activations -----------------------------------------------------------------------------------------------------


def straight_through(x):
    surrogate = torch.where(x.abs() <= 1, x, torch.zeros_like(x))
    return torch.heaviside(x.detach(), torch.ones(())) + surrogate - surrogate.detach()


def swish(x, beta=1.0, scale=1.0):
    return scale * x * torch.sigmoid(beta * x)


# The text is what sl_activation_parse reads.
ACTIVATIONS = {
    "linear(2.5)": lambda x: 2.5 * x,
    "step": lambda x: x * 0 + torch.heaviside(x.detach(), torch.ones(())),
    "step_ste": straight_through,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, f32(0.01)),
    "leaky_relu(0.2)": lambda x: F.leaky_relu(x, f32(0.2)),
    "prelu(fixed)": lambda x: F.leaky_relu(x, 0.25),
    "elu": F.elu,
    "elu(0.5)": lambda x: F.elu(x, 0.5),
    "selu": F.selu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "swish": F.silu,
    "swish(1.75)": lambda x: swish(x, 1.75),
    "swish(1,2)": lambda x: swish(x, 1.0, 2.0),
    "swish(-0.5)": lambda x: swish(x, -0.5),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,  # F.hardsigmoid's slope is the float 1/6 even in double precision
    "hard_swish": F.hardswish,
    "hard_tanh": F.hardtanh,
    "relu6": F.relu6,
}
SPECIAL = [0, 1, -1, 3, -3, 6, -6, 10, -10, 20, -20, 50, -50, 100, -100, 2**-10, -(2**-10), 2**-20, -(2**-20), 5]


def make_activations():
    file = File()
    # The last elements of x are SPECIAL: kinks, and values far out. dy lies in [-1, 1).
    count = 64
    file.put("special", np.array(SPECIAL, dtype=np.float64))
    for text, f in ACTIVATIONS.items():
        c = Case(file, text, (count, 1), scale=4.0)
        with torch.no_grad():
            c.x[-len(SPECIAL):, 0] = torch.tensor(SPECIAL, dtype=torch.float64)
        c.finish(f(c.x))

    def learned(name, shape, what, per_channel, f):
        c = Case(file, name, shape, scale=4.0)
        a = c.p(what, shape[-1] if per_channel else 1)
        c.finish(f(c.x, a))

    def prelu(x, a):
        return F.prelu(x, a) if x.dim() == 2 else nhwc(F.prelu(nchw(x), a))

    learned("prelu", (6, 7), "prelu1.a", False, prelu)
    learned("prelu(channel)", (6, 7), "prelu1.a", True, prelu)
    learned("prelu(channel) of images", (3, 4, 5, 6), "prelu1.a", True, prelu)
    learned("prelu of images", (3, 4, 5, 6), "prelu1.a", False, prelu)
    learned("swish(learn)", (6, 7), "swish1.beta", False, swish)
    learned("swish(channel)", (3, 4, 5, 6), "swish1.beta", True, swish)
    return file


# --- losses and networks -----------------------------------------------------------------------------------------------


def labels(file, name, count, classes):
    v = ((values(name + ".labels", count) + 1) / 2 * classes).astype(np.int32)
    file.put(name + ".labels", v)
    return torch.tensor(v.astype(np.int64))


def line(c, x, words, f, margin):
    """A model line as Slope reads it; batch norm and dropout as in evaluation."""
    count = {"conv": 0, "dense": 0, "norm": 0}

    def name(kind):
        count[kind] += 1
        return f"{kind}{count[kind]}"

    for word in words.split():
        if word == "act":
            x = f(x)
        elif word == "bn":
            x = norm(c, x, name("norm"), False)
        elif word.startswith("conv"):
            kernel, filters = map(int, word[4:].split("-"))
            x = conv(c, x, name("conv"), filters, kernel)
        elif word.startswith("pool"):
            x = max_pool(x, 2, margin)
        elif word.startswith("dense"):
            x = dense(c, x, name("dense"), int(word[5:]))
    return x


def make_networks():
    file = File()

    def loss(name, shape, f, target=None, classes=0, **options):
        c = Case(file, name, shape, **options)
        if classes:
            t = labels(file, name, shape[0], classes)
        else:
            t = torch.tensor(values(name + ".t", math.prod(shape)).reshape(shape), requires_grad=True)
        c.finish(f(c.x, t))
        if not classes:
            file.put(name + ".dt", t.grad)

    loss("mean squared error", (5, 3), F.mse_loss)
    loss("half squared error", (5, 3), lambda x, t: 0.5 * (x - t).square().sum() / len(x))
    loss("binary cross-entropy", (5, 3),
         lambda x, t: F.binary_cross_entropy_with_logits(x, (t + 1) / 2), scale=8.0)
    loss("binary cross-entropy of labels", (6, 1),
         lambda x, t: F.binary_cross_entropy_with_logits(x[:, 0], t.to(x)), classes=2, scale=64.0)
    loss("cross-entropy", (5, 10), F.cross_entropy, classes=10, scale=4.0)
    loss("cross-entropy steep", (4, 3), F.cross_entropy, classes=3, scale=8192.0)

    lines = {
        "mlp": ("dense128 act dense10", F.silu),
        "lenet": ("conv5-8 act pool2 conv5-16 act pool2 dense10", torch.tanh),
        "cnn": ("conv3-32 bn act conv3-64 bn act pool2 dense128 bn act dense10", F.elu),
    }
    for model, (words, f) in lines.items():
        for n in 3, 5:
            # Brighter or darker images, until no pooling window is so close that rounding decides it.
            for scale in np.arange(64, 16, -1) / 128:
                margin = []
                trial = Case(File(), f"{model} {n}", (n, 28, 28, 1), scale, 0.5)
                with torch.no_grad():
                    line(trial, trial.x, words, f, margin)
                if min(margin, default=1) > 2e-6:
                    break
            else:
                raise SystemExit("no scale keeps the maxima of the pooling windows apart")
            c = Case(file, f"{model} {n}", (n, 28, 28, 1), scale, 0.5)
            t = labels(file, c.name, n, 10)
            c.finish(F.cross_entropy(line(c, c.x, words, f, None), t), of_x=False)
    return file


# --- training ----------------------------------------------------------------------------------------------------------

STEPS = 50
RECORDED = [1, 2, 3, 5, 10, 20, 35, 50]
SHAPES = {"dense1.weight": (3, 4), "dense1.bias": (4,), "dense2.weight": (4, 2), "dense2.bias": (2,)}


def train(make, clip=None, l2=0.0, schedule=None, name="fit"):
    """The parameters after each of RECORDED steps. `make(groups)` gives the optimiser; groups: weights, biases."""
    p = {n: parameter("fit." + n, s) for n, s in SHAPES.items()}
    x = torch.tensor(values("fit.x", 6 * 3)).reshape(6, 3) * 2
    t = torch.tensor(values("fit.t", 6 * 2)).reshape(6, 2)
    weights = [p["dense1.weight"], p["dense2.weight"]]
    optimizer = make(weights, [p["dense1.bias"], p["dense2.bias"]])
    out = []
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        y = torch.tanh(x @ p["dense1.weight"] + p["dense1.bias"]) @ p["dense2.weight"] + p["dense2.bias"]
        F.mse_loss(y, t).backward()
        if clip:
            clip(list(p.values()), step)
        for w in weights:  # the penalty ½·l2·Σw² is added behind the clipping, as weight decay is
            w.grad += l2 * w.detach()
        optimizer.step()
        if step in RECORDED:
            out.append(torch.cat([q.detach().reshape(-1) for q in p.values()]))
    return torch.stack(out)


def groups(weights, biases, decay):
    return [{"params": weights, "weight_decay": f32(decay)}, {"params": biases, "weight_decay": 0.0}]


def make_training():
    file = File()
    O = torch.optim
    b = (f32(0.9), f32(0.999))
    rows = {
        "sgd": lambda g: O.SGD(g, lr=f32(0.1)),
        "momentum": lambda g: O.SGD(g, lr=f32(0.05), momentum=f32(0.9)),
        "nesterov": lambda g: O.SGD(g, lr=f32(0.05), momentum=f32(0.8), nesterov=True),
        "adagrad": lambda g: O.Adagrad(g, lr=f32(0.1), eps=f32(1e-10)),
        "adadelta": lambda g: O.Adadelta(g, lr=1.0, rho=f32(0.9), eps=f32(1e-6)),
        "rmsprop": lambda g: O.RMSprop(g, lr=f32(0.01), alpha=f32(0.99), eps=f32(1e-8)),
        "adam": lambda g: O.Adam(g, lr=f32(0.01), betas=b, eps=f32(1e-8)),
        "adamw": lambda g: O.AdamW(g, lr=f32(0.01), betas=b, eps=f32(1e-8)),
    }
    for name, row in rows.items():
        file.put(name, train(lambda w, bias: row(groups(w, bias, 0.0))))
        file.put(name + " decay", train(lambda w, bias: row(groups(w, bias, 0.1))))
    for name in "sgd", "adam", "adamw":
        file.put(name + " l2", train(lambda w, bias: rows[name](groups(w, bias, 0.0)), l2=f32(0.1)))
    file.put("adamw l2 decay", train(lambda w, bias: rows["adamw"](groups(w, bias, 0.1)), l2=f32(0.1)))

    # torch.nn.utils.clip_grad_norm_ divides by norm + 1e-6, Slope by the norm itself: the same factor to 1e-6/norm.
    clipped = {}

    def clip_norm(limit):
        def clip(parameters, step):
            norm = torch.sqrt(sum(q.grad.square().sum() for q in parameters))
            theirs = [q.grad.clone() for q in parameters]
            factor = min(1.0, f32(limit) / float(norm))
            clipped[limit] = clipped.get(limit, 0) + (factor < 1)
            torch.nn.utils.clip_grad_norm_(parameters, f32(limit))
            for q, g in zip(parameters, theirs):
                assert torch.allclose(q.grad, factor * g, rtol=2e-6 / float(norm), atol=0)
                q.grad = factor * g
        return clip

    def clip_value(limit):
        return lambda parameters, step: torch.nn.utils.clip_grad_value_(parameters, f32(limit))

    sgd = lambda w, bias: rows["sgd"](groups(w, bias, 0.0))
    adam = lambda w, bias: rows["adam"](groups(w, bias, 0.1))
    file.put("clip norm", train(sgd, clip_norm(0.3)))
    assert 0 < clipped[0.3] < STEPS  # steps of both kinds
    file.put("clip norm adam", train(adam, clip_norm(0.3), l2=f32(0.1)))
    file.put("clip value", train(sgd, clip_value(0.05)))
    file.put("clip value l2", train(sgd, clip_value(0.05), l2=f32(0.1)))

    def rates(make, lr=0.5):
        optimizer = O.SGD([torch.zeros(1, requires_grad=True)], lr=f32(lr))
        scheduler = make(optimizer)
        out = []
        for _ in range(STEPS):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if scheduler:
                scheduler.step()
        return np.array(out, dtype=np.float64)

    S = O.lr_scheduler
    file.put("rate constant", rates(lambda o: None))
    file.put("rate step", rates(lambda o: S.StepLR(o, 20, f32(0.1))))
    file.put("rate step short", rates(lambda o: S.StepLR(o, 5, f32(0.7))))
    file.put("rate cosine", rates(lambda o: S.CosineAnnealingLR(o, STEPS)))
    file.put("rate cosine floor", rates(lambda o: S.CosineAnnealingLR(o, STEPS, f32(0.5) * f32(0.1))))
    file.put("rate one-cycle", rates(lambda o: S.OneCycleLR(o, f32(0.5), total_steps=STEPS, cycle_momentum=False)))
    file.put("rate warm-up", rates(lambda o: S.LinearLR(o, 0.125, 1.0, 7)))
    return file


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for name in "layers", "activations", "networks", "training":
        globals()["make_" + name]().write(os.path.join(folder, name + ".safetensors"))


main()
