"""Visformer-Tiny at 224, batch 16, one thread, in PyTorch: the peer of bench/visformer_bench.cpp.

    python visformer_torch.py [channels_last]

Prints the least and the median time of a forward pass and of a training step, and the process's largest resident set.
"""
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    def __init__(self, dim, hidden, groups=0):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, hidden, 1, bias=False)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups, bias=False) if groups else None
        self.conv3 = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x):
        x = F.gelu(self.conv1(x))
        if self.conv2 is not None:
            x = F.gelu(self.conv2(x))
        return self.conv3(x)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.proj = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, self.heads, self.head_dim, h * w).permute(1, 0, 2, 4, 3)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.permute(0, 1, 3, 2).reshape(b, c, h, w))


class Block(nn.Module):
    def __init__(self, dim, heads=3, groups=0):
        super().__init__()
        self.attn = None if groups else Attention(dim, heads)
        self.norm1 = None if groups else nn.BatchNorm2d(dim)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = Mlp(dim, 2 * dim if groups else 4 * dim, groups)

    def forward(self, x):
        if self.attn is not None:
            x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Stage(nn.Module):
    def __init__(self, inputs, dim, patch, side, depth, groups=0):
        super().__init__()
        self.embed = nn.Sequential(nn.Conv2d(inputs, dim, patch, patch), nn.BatchNorm2d(dim))
        self.position = nn.Parameter(torch.zeros(1, dim, side, side))
        self.blocks = nn.Sequential(*[Block(dim, groups=groups) for _ in range(depth)])

    def forward(self, x):
        return self.blocks(self.embed(x) + self.position)


def make_model():
    stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    stages = [Stage(16, 96, 4, 28, 7, groups=8), Stage(96, 192, 2, 14, 4), Stage(192, 384, 2, 7, 4)]
    return nn.Sequential(stem, *stages, nn.BatchNorm2d(384), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(384, 64))


def measure(name, step, repeats=7):
    step()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begin))
    print(f"{name}: least {min(times):.0f} ms, median {statistics.median(times):.0f} ms")


def main():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    layout = torch.channels_last if "channels_last" in sys.argv[1:] else torch.contiguous_format
    model = make_model().to(memory_format=layout)
    images = torch.randn(16, 3, 224, 224).to(memory_format=layout)
    labels = torch.arange(16) % 64
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)

    def forward():
        with torch.inference_mode():
            model(images)

    def training_step():
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels, label_smoothing=0.1).backward()
        optimizer.step()

    print(f"PyTorch {torch.__version__}, {layout}")
    model.eval()
    measure("forward", forward)
    model.train()
    measure("training step", training_step)
    print(f"largest resident set: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
