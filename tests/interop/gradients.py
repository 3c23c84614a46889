#!/usr/bin/env python3
"""Gradients of `tsubu gradient` against PyTorch's on the tiny random models of make_tiny_models.py, and both their speeds.

    gradients.py MODELS --tsubu PROGRAM [--only NAME] [--ctx N] [--chunks N] [--threads N]

For each model PyTorch computes the gradient of the same mean loss twice, in float32 and in float64. What float32 itself
loses, |g32 - g64| / |g64| of each tensor, is the yardstick: tsubu may be off by at most five times that, taken over the
model's tensors (the largest), since both sum the same terms in different orders. Needs torch, transformers, safetensors, gguf.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import gguf
import safetensors.torch
import torch
import transformers


FACTOR = 5
NOT_PARAMETERS = ("exp_probs_b", "rope_f")  # DeepSeek's bias of the choice of experts; factors of rope angles


def torch_gradients(folder, dtype, windows, tsubu):
    """Gradients under GGUF names and in GGUF order, and tokens a second. Names and orders are those of `tsubu convert`, which
    other checks hold to llama.cpp: the gradients are saved in the weights' places and converted."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                              experts_implementation="eager")
    model = model.to(dtype)
    model.get_input_embeddings().padding_idx = None  # OPT: else the token of that number gets no gradient
    count = sum(len(w) - 1 for w in windows)
    start = time.monotonic()
    for w in windows:
        ids = torch.tensor(w)[None]
        logits = model(ids).logits[0, :-1]
        (torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum") / count).backward()
    seconds = time.monotonic() - start
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.grad if p.grad is not None else torch.zeros_like(p))
        model = model.to(torch.float32)
    with tempfile.TemporaryDirectory() as name:
        saved = pathlib.Path(name) / "gradients"
        model.save_pretrained(saved)
        for path in folder.iterdir():
            if path.suffix != ".safetensors" and not path.name.endswith(".index.json"):
                shutil.copy(path, saved)
        config = json.loads((saved / "config.json").read_text())
        (saved / "config.json").write_text(json.dumps(config | {"dtype": "float32", "torch_dtype": "float32"}))
        subprocess.run([tsubu, "convert", saved, "-o", saved / "g.gguf", "--dtype", "F32", "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        gradients = {t.name: torch.tensor(t.data).double().flatten() for t in gguf.GGUFReader(saved / "g.gguf").tensors
                     if not any(part in t.name for part in NOT_PARAMETERS)}
    if model.config.model_type.startswith("gemma"):
        for n in gradients:
            if n.endswith("norm.weight"):
                gradients[n] -= 1  # the conversion adds it to these gains
    return gradients, sum(map(len, windows)) / seconds


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
        double, _ = torch_gradients(folder, torch.float64, windows, a.tsubu)
        single, speed = torch_gradients(folder, torch.float32, windows, a.tsubu)
        missing = set(double) ^ set(mine)
        lost = {n: ((single[n] - double[n]).norm() / double[n].norm()).item() for n in double}
        errors = {n: ((mine[n].double().flatten() - double[n]).norm() / double[n].norm()).item() for n in double if n in mine}
        # The softmax takes a bias of keys away again: its gradient is rounding alone, compared for itself.
        nothing = [n for n in errors if lost[n] > 0.1]
        missing |= {n for n in nothing if errors.pop(n) > FACTOR * lost[n]}
        yardstick = max(lost[n] for n in errors)
        worst = max(errors, key=errors.get)
        fine = not missing and errors[worst] <= FACTOR * yardstick
        bad += not fine
        print(f"{folder.name}: {'ok' if fine else 'BAD'}: {len(errors)} tensors, largest error {errors[worst]:.2e} ({worst}), "
              f"torch's float32 {yardstick:.2e}; tokens/s {report['tokens_per_second']:.0f}, torch {speed:.0f}"
              + (f"; not in both: {sorted(missing)}" if missing else ""))
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
