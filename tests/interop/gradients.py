#!/usr/bin/env python3
"""Gradients of `tsubu gradient` against PyTorch's on the tiny random models of make_tiny_models.py, and both their speeds.

    gradients.py MODELS --tsubu PROGRAM [--only NAME] [--ctx N] [--chunks N] [--threads N]

For each model PyTorch computes the gradient of the same mean loss twice, in float32 and in float64. What float32 itself
loses, |g32 - g64| / |g64| of each tensor, is the yardstick: tsubu may be off by at most five times that, taken over the
model's tensors (the largest), since both sum the same terms in different orders. Needs torch, transformers, safetensors.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

import safetensors.torch
import torch
import transformers


FACTOR = 5
# Architectures whose names gguf_names knows; the other operations are held to finite differences (gradient_test).
KNOWN = {"gpt2", "llama", "mistral", "qwen2", "qwen3"}


def interleave(w, n_heads):
    """Rows of a head (x0 … y0 …) to pairs, as GGUF has them for llama."""
    head = w.shape[0] // n_heads
    return w.reshape(n_heads, 2, head // 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)


def gguf_names(model):
    """(GGUF name, gradient in its row order) of every parameter."""
    config = model.config
    kind = config.model_type
    for name, p in model.named_parameters():
        g = p.grad
        if kind == "gpt2":
            if name.endswith("weight") and g.dim() == 2 and re.search(r"c_attn|c_proj|c_fc", name):
                g = g.T
            name = re.sub(r"^transformer\.h\.(\d+)\.", r"blk.\1.", name).replace("transformer.", "")
            for old, new in [("ln_1", "attn_norm"), ("attn.c_attn", "attn_qkv"), ("attn.c_proj", "attn_output"),
                             ("ln_2", "ffn_norm"), ("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down"), ("ln_f", "output_norm"),
                             ("wte", "token_embd"), ("wpe", "position_embd")]:
                name = name.replace(old, new)
            yield name, g
            continue
        if kind in ("llama", "mistral"):
            if "q_proj" in name:
                g = interleave(g, config.num_attention_heads)
            if "k_proj" in name:
                g = interleave(g, config.num_key_value_heads)
        name = re.sub(r"^model\.layers\.(\d+)\.", r"blk.\1.", name).replace("model.", "")
        for old, new in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
                         ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
                         ("self_attn.o_proj", "attn_output"), ("self_attn.q_norm", "attn_q_norm"),
                         ("self_attn.k_norm", "attn_k_norm"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
                         ("mlp.down_proj", "ffn_down"), ("embed_tokens", "token_embd"), ("lm_head", "output")]:
            name = name.replace(old, new)
        yield re.sub(r"^norm\.", "output_norm.", name), g


def torch_gradients(folder, dtype, windows):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = model.to(dtype)
    count = sum(len(w) - 1 for w in windows)
    start = time.monotonic()
    for w in windows:
        ids = torch.tensor(w)[None]
        logits = model(ids).logits[0, :-1]
        (torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum") / count).backward()
    seconds = time.monotonic() - start
    return {name: g.double() for name, g in gguf_names(model)}, sum(map(len, windows)) / seconds


def main():
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--tsubu", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--ctx", type=int, default=256)
    parser.add_argument("--chunks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--text", type=pathlib.Path)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    text = a.text or a.models / "text.txt"
    bad = 0
    folders = [a.models] if (a.models / "config.json").exists() else sorted(p for p in a.models.iterdir() if p.is_dir())
    for folder in folders:
        if a.only not in folder.name or not (folder / "config.json").exists():
            continue
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        if kind not in KNOWN:
            print(f"{folder.name}: left out: names of {kind} are not known here")
            continue
        out = folder.parent / f"{folder.name}.gradient.safetensors"
        made = subprocess.run([a.tsubu, "gradient", folder, "--text", text, "--ctx", str(a.ctx), "--chunks", str(a.chunks),
                               "--threads", str(a.threads), "-o", out, "--json"], capture_output=True, text=True)
        if made.returncode != 0:
            print(f"{folder.name}: {made.stderr.strip()}")
            bad += 1
            continue
        report = json.loads(made.stdout)
        mine = safetensors.torch.load_file(out)
        # The windows as tsubu cuts them: text from its start, BOS first where the tokenizer adds one.
        ids = json.loads(subprocess.run([a.tsubu, "tokenize", folder, "--stdin", "--json"], input=text.read_text(),
                                        capture_output=True, text=True, check=True).stdout)["tokens"]
        ids = [t["id"] for t in ids]
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
        windows = [ids[i * a.ctx:(i + 1) * a.ctx] for i in range(a.chunks)]
        if tokenizer.get("add_bos_token"):
            windows = [[ids[0]] + w[1:] for w in windows]
        double, _ = torch_gradients(folder, torch.float64, windows)
        single, speed = torch_gradients(folder, torch.float32, windows)
        missing = set(double) ^ set(mine)
        yardstick = max(((single[n] - double[n]).norm() / double[n].norm()).item() for n in double)
        errors = {n: ((mine[n].double() - double[n]).norm() / double[n].norm()).item() for n in double if n in mine}
        worst = max(errors, key=errors.get)
        fine = not missing and errors[worst] <= FACTOR * yardstick
        bad += not fine
        print(f"{folder.name}: {'ok' if fine else 'BAD'}: {len(errors)} tensors, largest error {errors[worst]:.2e} ({worst}), "
              f"torch's float32 {yardstick:.2e}; tokens/s {report['tokens_per_second']:.0f}, torch {speed:.0f}"
              + (f"; not in both: {sorted(missing)}" if missing else ""))
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
