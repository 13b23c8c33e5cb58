"""Loads an exported model with transformers and compares its logits with ours.

Use: transformers_logits.py FOLDER, which holds the export and expected.safetensors (ids, logits). Exit code 1 where they differ by
more than 1e-4 of the largest logit's size, or where transformers finds a weight missing or too many.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

folder = sys.argv[1]
expected = load_file(os.path.join(folder, "expected.safetensors"))
model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
wrong = {key: sorted(value) for key, value in loading.items() if value and key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
if wrong:
    sys.exit(f"{type(model).__name__}: {json.dumps(wrong)}")
config = AutoConfig.from_pretrained(folder)
with torch.no_grad():
    logits = model.eval()(input_ids=expected["ids"].long()).logits
difference = (logits - expected["logits"]).abs().max().item()
scale = expected["logits"].abs().max().item()
print(f"{type(model).__name__}, {config.num_hidden_layers} layers: logits up to {scale:.3f} differ by at most {difference:.2e}")
sys.exit(0 if difference <= 1e-4 * max(scale, 1.0) else 1)
