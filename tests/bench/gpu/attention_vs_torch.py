"""Attention of the CUDA backend beside PyTorch's scaled_dot_product_attention with its FlashAttention and its cuDNN backend, on
the shapes that `strait calibrate` measures, causal, bf16: milliseconds, TFLOP/s and ratios, forward and backward.

  STRAIT_TORCH_PYTHON=/path/to/python python3 tests/bench/gpu/attention_vs_torch.py device.json

device.json: of `strait calibrate --backend cuda` on the same GPU, just before. "strait is 0.80x" means that PyTorch is faster. Whether
their backward gives the same bits again is asked, too.
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

NAME = re.compile(r"attention_(forward|backward) B=(\d+) T=(\d+) H=(\d+) Dh=(\d+) bf16")


def fastest(torch, work):
    """Seconds of one call, by events around five; the best of ten."""
    for _ in range(3):
        work()
    best = float("inf")
    for _ in range(10):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(5):
            work()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 5e3)
    return best


def measure(shapes):
    """In the interpreter that has PyTorch: {"flash B T H Dh": [forward s, backward s, same bits]}."""
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    found = {}
    for batch, context, heads, width in shapes:
        q, k, v, gradient = (torch.randn(batch, heads, context, width, device="cuda", dtype=torch.bfloat16) for _ in range(4))
        for tensor in (q, k, v):
            tensor.requires_grad_()
        for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            def forward():
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)

            try:
                with sdpa_kernel(backend):
                    out = forward()

                    def backward():
                        return torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)

                    first = backward()
                    same = all(torch.equal(a, b) for _ in range(5) for a, b in zip(first, backward()))
                    found[f"{name} {batch} {context} {heads} {width}"] = [fastest(torch, forward), fastest(torch, backward), same]
            except RuntimeError as error:
                print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
    print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "found": found}))


def main():
    if sys.argv[1:2] == ["--measure"]:
        return measure(json.loads(sys.argv[2]))
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    ours = {}
    for op in json.loads(Path(sys.argv[1]).read_text())["ops"]:
        match = NAME.fullmatch(op["op"])
        if match:
            ours[(match[1], *map(int, match.groups()[1:]))] = op
    python = os.environ.get("STRAIT_TORCH_PYTHON", "").split(":")[0]
    if not ours or not python:
        sys.exit(f"{sys.argv[1]} has no attention in bf16" if python else
                 "STRAIT_TORCH_PYTHON names no interpreter with PyTorch; see tests/bench/README.md")
    shapes = sorted({key[1:] for key in ours})
    done = subprocess.run([python, __file__, "--measure", json.dumps(shapes)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.returncode)
    peer = json.loads(done.stdout.splitlines()[-1])
    print(f"attention, causal, bf16; torch {peer['torch']}, cuDNN {peer['cudnn']}")
    for shape in shapes:
        for index, direction in enumerate(("forward", "backward")):
            op = ours[(direction, *shape)]
            line = (f"  {direction:8} B={shape[0]} T={shape[1]} H={shape[2]} Dh={shape[3]}:  strait {1e3 * op['seconds']:.3f} ms, "
                    f"{op['flops'] / op['seconds'] * 1e-12:.0f} TFLOP/s")
            for name in ("flash", "cudnn"):
                theirs = peer["found"].get(" ".join([name, *map(str, shape)]))
                if theirs:
                    line += f";  {name} {1e3 * theirs[index]:.3f} ms, strait is {theirs[index] / op['seconds']:.2f}x"
                    line += "" if index == 0 else f", {'the same bits' if theirs[2] else 'OTHER BITS'} again"
            print(line)


if __name__ == "__main__":
    main()
