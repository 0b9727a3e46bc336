"""Visformer-Tiny at 224 on a card in PyTorch: the peer of bench/cuda/visformer_main.cu. Wall-clock medians in milliseconds.

    python visformer_torch_cuda.py [compile]
"""
import statistics
import sys
import time

import torch
from torch.nn import functional as F

from visformer_torch import make_model


def median_ms(step, repeats=20, warm=5):
    for _ in range(warm):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def measure(batch, precision, compiled):
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "f32"
    model = make_model().cuda().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device="cuda") % 64
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05, fused=True)
    narrow = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")
    run = torch.compile(model, mode="reduce-overhead") if compiled else model

    def forward():
        with torch.inference_mode(), narrow:
            run(images)

    def training_step():
        optimizer.zero_grad(set_to_none=True)
        with narrow:
            loss = F.cross_entropy(run(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()

    model.eval()
    forward_ms = median_ms(forward)
    model.train()
    return forward_ms, median_ms(training_step) if batch > 1 else float("nan")


def main():
    compiled = "compile" in sys.argv[1:]
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}, {'torch.compile' if compiled else 'eager'}")
    for batch, precision in [(1, "tf32"), (80, "bf16"), (80, "tf32"), (80, "f32"), (512, "bf16")]:
        if compiled and (batch, precision) in [(1, "tf32"), (80, "f32")]:
            continue
        forward, step = measure(batch, precision, compiled)
        print(f"batch {batch:4d} {precision:5s} forward {forward:8.3f} ms  training step {step:8.3f} ms", flush=True)


if __name__ == "__main__":
    main()
