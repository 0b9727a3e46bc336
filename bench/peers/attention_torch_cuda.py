"""Scaled dot-product attention on a card in PyTorch, each backend: the peer of bench/cuda/kernels. Medians in microseconds.

Forward as a replayed CUDA graph, forward and backward both as one graph and eagerly; the best backend is named.
"""
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
            "math": SDPBackend.MATH}


def median_us(step, repeats=30):
    for _ in range(5):
        step()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step()
        end.record()
        end.synchronize()
        times.append(1e3 * begin.elapsed_time(end))
    return statistics.median(times)


def as_graph(step):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def best(make):
    found = {}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                found[name] = median_us(make())
        except RuntimeError:
            torch.cuda.synchronize()
    name = min(found, key=found.get)
    return f"{found[name]:7.1f} ({name})"


def measure(batch, heads, queries, keys, head_dim, dtype):
    def tensor(tokens):
        return torch.randn(batch, heads, tokens, head_dim, device="cuda", dtype=dtype, requires_grad=True)

    q, k, v = tensor(queries), tensor(keys), tensor(keys)
    grad = torch.randn(batch, heads, queries, head_dim, device="cuda", dtype=dtype)

    def forward():
        with torch.no_grad():
            scaled_dot_product_attention(q, k, v)

    def both():
        torch.autograd.grad(scaled_dot_product_attention(q, k, v), (q, k, v), grad)

    print(f"{str(dtype)[6:]:9s} {batch} x {heads} heads, {queries} x {keys} x {head_dim}: forward {best(lambda: as_graph(forward))}, "
          f"forward + backward {best(lambda: as_graph(both))} as a graph, {best(lambda: both)} eager us", flush=True)


if __name__ == "__main__":
    for dtype in (torch.bfloat16, torch.float32):
        for shape in [(80, 3, 196, 196, 64), (80, 3, 49, 49, 128), (512, 3, 196, 196, 64), (512, 3, 49, 49, 128), (80, 8, 45, 196, 24),
                      (80, 8, 45, 49, 48)]:
            measure(*shape, dtype)
