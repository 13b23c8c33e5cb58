#!/usr/bin/env python3
"""Makes llama_tiny.safetensors: a two-layer LLaMA, computed by PyTorch, that the engine's model test compares itself with.

The model is written out here in plain PyTorch (no module classes), in float64 throughout, from weights that are exact in
float32; only what is stored as F32 is rounded, once, at the end. Needs PyTorch >= 1.13 and nothing else:

    make_golden.py llama_tiny.safetensors            # writes the file
    make_golden.py --check llama_tiny.safetensors    # recomputes everything from the file's weights and compares
    make_golden.py --check --hugging-face FILE       # also compares with transformers.LlamaForCausalLM, if installed

The file in this folder was made with Debian 12's PyTorch 1.13; --check passes there and with PyTorch 2.15, and
--hugging-face with transformers 5.23.0. README.md lists the tensors.
"""
import argparse
import array
import json
import math
import struct
import sys

import torch

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, FFN, VOCABULARY = 2, 64, 4, 2, 16, 176, 97
BATCH, CONTEXT = 2, 32
EPS, THETA = 1e-5, 10000.0
LR, BETA1, BETA2, ADAM_EPS, WEIGHT_DECAY, CLIP_NORM, STEPS = 1e-3, 0.9, 0.95, 1e-8, 0.1, 1.0, 10
SEED = 20240229


# ---- the model -------------------------------------------------------------------------------------------------------


def weight_shapes():
    """Hugging Face names and shapes; a matrix is [out, in]."""
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        shapes[p + "input_layernorm.weight"] = (WIDTH,)
        shapes[p + "self_attn.q_proj.weight"] = (HEADS * HEAD_WIDTH, WIDTH)
        shapes[p + "self_attn.k_proj.weight"] = (KV_HEADS * HEAD_WIDTH, WIDTH)
        shapes[p + "self_attn.v_proj.weight"] = (KV_HEADS * HEAD_WIDTH, WIDTH)
        shapes[p + "self_attn.o_proj.weight"] = (WIDTH, HEADS * HEAD_WIDTH)
        shapes[p + "post_attention_layernorm.weight"] = (WIDTH,)
        shapes[p + "mlp.gate_proj.weight"] = (FFN, WIDTH)
        shapes[p + "mlp.up_proj.weight"] = (FFN, WIDTH)
        shapes[p + "mlp.down_proj.weight"] = (WIDTH, FFN)
    shapes["model.norm.weight"] = (WIDTH,)
    shapes["lm_head.weight"] = (VOCABULARY, WIDTH)
    return shapes


def make_inputs():
    """Weights (float32 values in float64 tensors), token ids and targets (B, T)."""
    generator = torch.Generator().manual_seed(SEED)
    weights = {}
    for name, shape in weight_shapes().items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float32)
        # Large enough for uneven attention and gradients that clipping cuts; gains differ from 1 so that they count.
        value = 1 + 0.25 * noise if len(shape) == 1 else noise * shape[1] ** -0.5
        weights[name] = value.double()
    text = torch.randint(0, VOCABULARY, (BATCH, CONTEXT + 1), generator=generator)
    return weights, text[:, :-1].contiguous(), text[:, 1:].contiguous()


def rmsnorm(x, gain):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * gain


def rope(x):
    """Rotates halves: x (B, H, T, Dh), position t, angle t * theta^(-2i/Dh) for the pair (i, i + Dh/2)."""
    half = HEAD_WIDTH // 2
    frequency = THETA ** (-2.0 * torch.arange(half, dtype=torch.float64) / HEAD_WIDTH)
    angle = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * frequency
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)


def attention(x, w, p):
    b, t, _ = x.shape
    heads = lambda y, n: y.view(b, t, n, HEAD_WIDTH).transpose(1, 2)
    q = rope(heads(x @ w[p + "q_proj.weight"].T, HEADS))
    k = rope(heads(x @ w[p + "k_proj.weight"].T, KV_HEADS))
    v = heads(x @ w[p + "v_proj.weight"].T, KV_HEADS)
    # Query head h reads KV head h // (HEADS // KV_HEADS).
    k, v = (y.repeat_interleave(HEADS // KV_HEADS, 1) for y in (k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(HEAD_WIDTH)
    later = torch.ones(t, t, dtype=torch.bool).triu(1)
    o = scores.masked_fill(later, -math.inf).softmax(-1) @ v
    return o.transpose(1, 2).reshape(b, t, HEADS * HEAD_WIDTH) @ w[p + "o_proj.weight"].T


def swiglu(x, w, p):
    gate = x @ w[p + "gate_proj.weight"].T
    return (gate * torch.sigmoid(gate) * (x @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T


def forward(w, ids, targets):
    """Activations by name (in order), and the mean loss."""
    out = {}
    x = out["activation.embedding"] = w["model.embed_tokens.weight"][ids]
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        x = x + attention(rmsnorm(x, w[p + "input_layernorm.weight"]), w, p + "self_attn.")
        x = x + swiglu(rmsnorm(x, w[p + "post_attention_layernorm.weight"]), w, p + "mlp.")
        out[f"activation.block.{i}"] = x
    x = out["activation.final_norm"] = rmsnorm(x, w["model.norm.weight"])
    logits = out["activation.logits"] = x @ w["lm_head.weight"].T
    losses = logits.logsumexp(-1) - logits.gather(-1, targets[..., None])[..., 0]
    out["loss.per_token"] = losses
    return out, losses.mean()


# ---- what is stored --------------------------------------------------------------------------------------------------


def train(weights, ids, targets):
    """Ten AdamW steps on the same batch: loss and gradient norm (before clipping) of each, and the weights' sums of squares."""
    w = {name: value.clone().requires_grad_() for name, value in weights.items()}
    matrices = [value for value in w.values() if value.dim() == 2]
    gains = [value for value in w.values() if value.dim() == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(BETA1, BETA2), eps=ADAM_EPS)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = forward(w, ids, targets)[1]
        loss.backward()
        norm = math.sqrt(sum(value.grad.pow(2).sum().item() for value in w.values()))
        for value in w.values():
            value.grad.mul_(min(1.0, CLIP_NORM / norm))
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    results = {"adamw.losses": torch.tensor(losses, dtype=torch.float64),
               "adamw.gradient_norms": torch.tensor(norms, dtype=torch.float64)}
    for name, value in w.items():
        results["adamw.final_sum_squares." + name] = value.detach().pow(2).sum().view(1)
    return results


def compute(weights, ids, targets):
    """Everything in the file but the inputs, in float64."""
    w = {name: value.clone().requires_grad_() for name, value in weights.items()}
    results, loss = forward(w, ids, targets)
    loss.backward()
    results = {name: value.detach() for name, value in results.items()}
    for name, value in w.items():
        results["gradient." + name] = value.grad
    results.update(train(weights, ids, targets))
    return results


def keeps_float64(name):
    return name.startswith(("loss.", "adamw."))


# ---- safetensors -----------------------------------------------------------------------------------------------------

CODES = {"F64": "d", "F32": "f", "I32": "i"}  # type codes of array and struct


def write_safetensors(path, tensors, metadata):
    """tensors: name -> (dtype, tensor). Wider types first, so that every tensor is aligned."""
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name, (dtype, value) in sorted(tensors.items(), key=lambda item: (item[1][0] != "F64", item[0])):
        blob = array.array(CODES[dtype], value.flatten().tolist())
        assert sys.byteorder == "little" and blob.itemsize == struct.calcsize("=" + CODES[dtype])
        end = offset + len(blob) * blob.itemsize
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [offset, end]}
        blobs.append(blob.tobytes())
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    with open(path, "rb") as file:
        content = file.read()
    start = 8 + struct.unpack_from("<Q", content)[0]
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        values = array.array(CODES[entry["dtype"]], content[begin:end]).tolist()
        integer = entry["dtype"] == "I32"
        tensors[name] = torch.tensor(values, dtype=torch.int64 if integer else torch.float64).view(entry["shape"])
    return tensors


# ---- commands --------------------------------------------------------------------------------------------------------


def write(path):
    weights, ids, targets = make_inputs()
    tensors = {name: ("F32", value) for name, value in weights.items()}
    tensors["input.ids"] = ("I32", ids)
    tensors["input.targets"] = ("I32", targets)
    for name, value in compute(weights, ids, targets).items():
        tensors[name] = ("F64" if keeps_float64(name) else "F32", value)
    write_safetensors(path, tensors, {
        "producer": "make_golden.py", "torch_version": torch.__version__, "seed": str(SEED),
        "model": f"llama layers={LAYERS} width={WIDTH} heads={HEADS} kv_heads={KV_HEADS} head_width={HEAD_WIDTH} "
                 f"ffn_width={FFN} vocabulary={VOCABULARY} norm_eps={EPS} rope_theta={THETA}",
        "adamw": f"lr={LR} betas={BETA1},{BETA2} eps={ADAM_EPS} weight_decay={WEIGHT_DECAY} clip_norm={CLIP_NORM} steps={STEPS}"})


def compare(name, expected, found, tolerance):
    error = ((expected - found).abs().max() / expected.abs().max()).item()
    if not error <= tolerance:
        sys.exit(f"{name}: differs by {error:.3g} of its largest value; at most {tolerance:.3g} is allowed")
    return error


def check(path, hugging_face):
    stored = read_safetensors(path)
    weights = {name: stored[name] for name in weight_shapes()}
    results = compute(weights, stored["input.ids"], stored["input.targets"])
    # F32 values were rounded once (2^-24); float64 sums in another order, ten steps long, stay within 1e-11.
    worst = max(compare(n, v, stored[n], 1e-11 if keeps_float64(n) else 2.0 ** -24) for n, v in results.items())
    print(f"torch {torch.__version__}: {len(results)} tensors equal; largest difference {worst:.3g}")
    if hugging_face:
        check_against_hugging_face(weights, stored["input.ids"], stored["input.targets"], results)


def check_against_hugging_face(weights, ids, targets, results):
    import transformers
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=FFN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=CONTEXT, rms_norm_eps=EPS,
        rope_theta=THETA, tie_word_embeddings=False, attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config).double()
    model.load_state_dict(weights)
    output = model(input_ids=ids, output_hidden_states=True)
    losses = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), targets.flatten(), reduction="none")
    losses.mean().backward()
    # transformers keeps rotation angles and norms in float32 whatever the model's type is: 1e-6 of the largest value.
    pairs = {"activation.logits": output.logits, "loss.per_token": losses.view_as(targets),
             "activation.embedding": output.hidden_states[0], "activation.block.0": output.hidden_states[1],
             "activation.final_norm": output.hidden_states[LAYERS]}
    pairs.update({"gradient." + name: value.grad for name, value in model.named_parameters()})
    worst = max(compare("transformers, " + n, results[n], v.detach().double(), 1e-5) for n, v in pairs.items())
    print(f"transformers {transformers.__version__}: {len(pairs)} tensors equal; largest difference {worst:.3g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--check", action="store_true", help="compare FILE with what this PyTorch computes")
    parser.add_argument("--hugging-face", action="store_true", help="with --check: also compare with transformers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.check:
        check(arguments.file, arguments.hugging_face)
    else:
        write(arguments.file)


if __name__ == "__main__":
    main()
