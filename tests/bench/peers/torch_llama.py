"""The same training step in plain PyTorch: a LLaMA decoder (RMSNorm before each part, RoPE on halves, grouped-query attention,
SwiGLU, no biases, untied head), cross-entropy, gradient clipping at 1, AdamW. Trains on a token shard and prints its
tokens per second as JSON. It uses the fastest operators that the installed PyTorch has: the peer is meant to be strong.

  python torch_llama.py --shape '{"layers": 4, "width": 128, ...}' --tokens shard.bin [--precision bf16] [--compile]
"""

import argparse
import json
import os
import statistics
import time

import numpy


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=json.loads, required=True,
                        help="JSON: layers, width, heads, kv_heads, ffn_width, vocabulary, context")
    parser.add_argument("--tokens", required=True, help="llm.c token shard (uint16)")
    parser.add_argument("--batch", type=int, default=8, help="sequences per step")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 is autocast, with fp32 weights")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="fp32 on cuda without TF32, as the engine")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--warmup-steps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="length of a reading; at least two steps")
    parser.add_argument("--repeats", type=int, default=3, help="readings")
    parser.add_argument("--openblas-coretype", default="", help="sets OPENBLAS_CORETYPE in this process; else it is unset")
    return parser.parse_args()


ARGUMENTS = parse_arguments()
# Before torch loads its BLAS. What the shell exports would not be PyTorch's own speed: a wrong core type halves it.
os.environ.pop("OPENBLAS_CORETYPE", None)
if ARGUMENTS.openblas_coretype:
    os.environ["OPENBLAS_CORETYPE"] = ARGUMENTS.openblas_coretype

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

SHARD_MAGIC, SHARD_HEADER_BYTES = 20240520, 1024


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotation_table(context, head_width, theta):
    frequencies = theta ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    angles = torch.cat([angles, angles], dim=-1)  # (T, Dh)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):  # (B, H, T, Dh)
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat([-second, first], dim=-1) * sin.to(x.dtype)


def causal_attention(q, k, v):  # (B, H, T, Dh), (B, Hkv, T, Dh) twice
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    tokens = q.shape[2]
    mask = torch.full((tokens, tokens), float("-inf"), dtype=q.dtype).triu(1)
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask, dim=-1) @ v


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        width, heads, kv_heads, ffn = shape["width"], shape["heads"], shape["kv_heads"], shape["ffn_width"]
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.attention_norm = RMSNorm(width, 1e-5)
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.head_width, bias=False)
        self.out = nn.Linear(heads * self.head_width, width, bias=False)
        self.ffn_norm = RMSNorm(width, 1e-5)
        self.gate_up = nn.Linear(width, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, width, bias=False)

    def forward(self, x, cos, sin):  # (B, T, C)
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, tokens, -1, self.head_width).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        attended = causal_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, -1))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.embedding = nn.Embedding(shape["vocabulary"], shape["width"])
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape["layers"]))
        self.norm = RMSNorm(shape["width"], 1e-5)
        self.head = nn.Linear(shape["width"], shape["vocabulary"], bias=False)
        cos, sin = rotation_table(shape["context"], shape["width"] // shape["heads"], 10000.0)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, targets):  # (B, T) twice
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def make_optimizer(model):
    options = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    try:
        return torch.optim.AdamW(model.parameters(), fused=True, **options)
    except (RuntimeError, TypeError):  # older versions have it for CUDA alone
        return torch.optim.AdamW(model.parameters(), **options)


def read_shard(path):
    header = numpy.fromfile(path, dtype="<i4", count=3)
    if header.size < 3 or header[0] != SHARD_MAGIC:
        raise SystemExit(f"{path} is no llm.c shard of uint16 tokens")
    return numpy.memmap(path, dtype="<u2", mode="r", offset=SHARD_HEADER_BYTES, shape=(int(header[2]),))


def main():
    arguments, shape = ARGUMENTS, ARGUMENTS.shape
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    tokens, context = read_shard(arguments.tokens), shape["context"]
    device = arguments.device
    model = Llama(shape).to(device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    optimizer = make_optimizer(model)
    run = torch.compile(model) if arguments.compile else model
    generator = numpy.random.default_rng(1)
    losses = []

    def step():
        starts = generator.integers(0, len(tokens) - context - 1, arguments.batch)
        window = torch.from_numpy(numpy.stack([tokens[start:start + context + 1] for start in starts]).astype("int64")).to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = run(window[:, :-1].contiguous(), window[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    begin = time.perf_counter()
    for _ in range(arguments.warmup_steps):
        step()
    warmup_s = time.perf_counter() - begin
    readings = []
    for _ in range(arguments.repeats):
        begin, steps = time.perf_counter(), 0
        while steps < 2 or time.perf_counter() - begin < arguments.seconds:
            step()
            steps += 1
        readings.append(steps * arguments.batch * context / (time.perf_counter() - begin))
    print(json.dumps({
        "torch": torch.__version__, "blas": "mkl" if torch.backends.mkl.is_available() else "openblas",
        "openblas_coretype": arguments.openblas_coretype, "precision": arguments.precision, "compile": arguments.compile,
        "threads": torch.get_num_threads(), "batch": arguments.batch, "parameters": parameters, "warmup_s": warmup_s,
        "first_loss": losses[0], "last_loss": statistics.mean(losses[-5:]), "steps": len(losses),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "device_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "tokens_per_second": statistics.median(readings), "readings": readings}))


if __name__ == "__main__":
    main()
