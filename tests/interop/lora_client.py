#!/usr/bin/env python3
"""Adapters against their real clients: PEFT on transformers, and llama.cpp.

    lora_client.py TSUBU MODEL_DIR WORK_DIR [--llama-perplexity PROGRAM]

An adapter is trained on each of a float, an NF4 (double quantization) and a Q4_K_M base of the same model. PEFT loads it on that
base (NF4 by bitsandbytes) and llama.cpp on the GGUF:
* weights: PEFT's merge and tsubu's merged model, element by element. Both add r products to a weight in float32 in orders of
  their own: each differs from the exact sum by at most (2 r + 2) · 2^-24 · (|w| + s Σ|b||a|), so from the other by twice that;
* answers: the mean loss of a text under the adapter. The yardstick is what float32 itself loses, the mean over tokens of
  |loss32 - loss64| in PyTorch; tsubu may be off by five times that. The base without the adapter must be far outside of it;
* the greedy continuation, token by token, up to the first place where PyTorch's best two are closer than 1e-3;
* llama.cpp's perplexity with --lora and without: one part in ten thousand on F32, as architectures.py; one part in a hundred on
  Q4_K_M, where llama.cpp rounds activations to eight bits and eval does not.
An adapter that PEFT wrote is read back, too. Exit code 1 on any difference."""
import argparse
import json
import math
import pathlib
import re
import shutil
import subprocess

import peft
import torch
import transformers
from safetensors.torch import load_file

from client_checks import check, finish

FACTOR, NEAR, KQUANT_NEAR = 5, 1e-4, 1e-2
PROMPT = "Once upon a time"


def run(*args):
    done = subprocess.run([a.tsubu, *map(str, args), "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"tsubu {' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    return path


def train(base, out, *more):
    run("tune", base, "--lora", "r=8,alpha=16,targets=all", "--text", TEXT, "--ctx", 128, "--tokens", 8000, "--rate", 1e-2,
        "--no-checkpoint", "-o", fresh(out), *more)
    return out


def windows(n=8):
    ids = [t["id"] for t in json.loads(subprocess.run([a.tsubu, "tokenize", a.model, "--stdin", "--json"], input=HELD.read_text(),
                                                      capture_output=True, text=True, check=True).stdout)["tokens"]]
    cut = [ids[i * 128:(i + 1) * 128] for i in range(n)]
    adds_bos = json.loads((a.model / "tokenizer_config.json").read_text()).get("add_bos_token")
    return [[ids[0]] + w[1:] for w in cut] if adds_bos else cut  # as tsubu cuts them


def losses(model):
    """Loss of every token but the first of each window."""
    out = []
    with torch.no_grad():
        for w in windows():
            ids = torch.tensor(w)[None]
            out.append(torch.nn.functional.cross_entropy(model(ids).logits[0, :-1].to(torch.float64), ids[0, 1:], reduction="none"))
    return torch.cat(out)


def tsubu_loss(base, *adapter):
    report = json.loads(run("gradient", base, "--text", HELD, "--ctx", 128, "--chunks", 8, "--json", *adapter))
    return report["loss"]


def merged_weights(base, adapter):
    out = fresh(a.work / "merged")
    run("convert", base, "--adapter", adapter, "--format", "hf", "--dtype", "F32", "-o", out)
    return out, {k: v.double() for k, v in load_file(out / "model.safetensors").items()}


def float_directory(base):
    out = fresh(a.work / "base-f32")
    run("convert", base, "--format", "hf", "--dtype", "F32", "-o", out)
    return out


def compare_weights(name, model, base, adapter):
    """model: PEFT's, float32."""
    state = {k: v.double() for k, v in model.state_dict().items()}
    _, ours = merged_weights(base, adapter)
    worst, count = 0.0, 0
    for key in [k for k in state if k.endswith(".lora_A.default.weight")]:
        module = key[len("base_model.model."):-len(".lora_A.default.weight")]
        w, la, lb = (state[f"base_model.model.{module}.{part}.weight"] for part in ("base_layer", "lora_A.default", "lora_B.default"))
        rank, scale = la.shape[0], model.base_model.model.get_submodule(module).scaling["default"]
        exact, size = w + scale * (lb @ la), w.abs() + scale * (lb.abs() @ la.abs())
        bound = (2 * rank + 2) * 2.0**-24 * size
        worst = max(worst, ((ours[module + ".weight"] - exact).abs() / bound).max().item())
        count += 1
    check(f"{name}: merged weights", count > 0 and worst <= 1, f"{count} matrices, at most {worst:.2f} of the bound")


def compare_answers(name, make, base, adapter, base_loss):
    """make: PEFT's model in float32."""
    single, double = losses(make()), losses(make().to(torch.float64))
    yardstick = (single - double).abs().mean().item()
    ours, theirs = tsubu_loss(base, "--adapter", adapter), double.mean().item()
    off = abs(ours - theirs)
    check(f"{name}: loss", off <= FACTOR * yardstick and abs(base_loss - theirs) > 100 * FACTOR * yardstick,
          f"tsubu {ours:.6f}, PEFT {theirs:.6f} (off by {off:.1e}, torch's float32 {yardstick:.1e}), base alone {base_loss:.6f}")


def compare_text(name, model, base, adapter):
    tokens = json.loads(run("run", base, "--adapter", adapter, "-p", PROMPT, "-n", 48, "--greedy", "--act-f32", "--json"))["tokens"]
    plain = json.loads(run("run", base, "-p", PROMPT, "-n", 48, "--greedy", "--act-f32", "--json"))["tokens"]
    ids = [t["id"] for t in json.loads(run("tokenize", a.model, PROMPT, "--json"))["tokens"]]
    same = 0
    with torch.no_grad():
        for token in tokens:
            logits = model(torch.tensor([ids])).logits[0, -1].float()
            best = logits.topk(2)
            if (best.values[0] - best.values[1]).item() < 1e-3:
                break
            if best.indices[0].item() != token:
                same = -1
                break
            same += 1
            ids.append(token)
    check(f"{name}: greedy text", same >= 8 and tokens != plain, f"{same} tokens the same" if same >= 0 else f"differs at {len(ids)}")


def peft_model(directory, adapter):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return peft.PeftModel.from_pretrained(model, adapter).eval()


def llama_perplexity(gguf, *lora):
    command = [a.llama_perplexity, "-m", gguf, "-f", HELD, "-c", "128", "-b", "128", "--chunks", "16", "-ctk", "f32", "-ctv", "f32", "-fa", "off",
               *lora]
    for _ in range(12):  # it may exit before its log is flushed
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
        found = re.search(r"(?:Final estimate: PPL = |\[16\])([0-9.]+)", done.stdout + done.stderr)
        if found:
            return float(found.group(1))
    print(done.stderr[-800:])
    return math.nan


def tsubu_perplexity(gguf, *adapter):
    return json.loads(run("eval", gguf, "--text", HELD, "--ctx", 128, "--chunks", 16, "--json", *adapter))["perplexity"]["mean"]


def compare_llama(name, gguf, adapter, near=NEAR):
    if not a.llama_perplexity:
        return
    for who, ours, theirs in [("base", tsubu_perplexity(gguf), llama_perplexity(gguf)),
                              ("with the adapter", tsubu_perplexity(gguf, "--adapter", adapter),
                               llama_perplexity(gguf, "--lora", adapter))]:
        check(f"{name}: llama.cpp's perplexity, {who}", abs(ours / theirs - 1) <= near, f"tsubu {ours:.4f}, llama.cpp {theirs:.4f}")


def on_floats():
    """PEFT's directory and the GGUF adapter hold the same numbers."""
    base_loss = tsubu_loss(a.model)
    adapter, gguf_adapter = train(a.model, a.work / "peft-float"), train(a.model, a.work / "float.gguf")
    check("float: both files are the same adapter", tsubu_loss(a.model, "--adapter", adapter) == tsubu_loss(a.model, "--adapter", gguf_adapter))
    compare_weights("float", peft_model(a.model, adapter), a.model, adapter)
    compare_answers("float", lambda: peft_model(a.model, adapter), a.model, adapter, base_loss)
    compare_text("float", peft_model(a.model, adapter), a.model, adapter)
    f32 = fresh(a.work / "base-f32.gguf")
    run("convert", a.model, "-o", f32, "--dtype", "F32")
    compare_llama("float", f32, gguf_adapter)
    check("float: PEFT's directory on the GGUF", tsubu_loss(f32, "--adapter", adapter) == tsubu_loss(a.model, "--adapter", adapter))


def on_nf4():
    """Double quantization. That the weights are those that bitsandbytes decodes, layouts_client.py compares."""
    nf4 = fresh(a.work / "nf4")
    run("quantize", a.model, "--format", "bitsandbytes", "--to", "NF4_DOUBLE", "--method", "nearest", "-o", nf4)
    adapter = train(nf4, a.work / "peft-nf4")
    decoded, nf4_loss = float_directory(nf4), tsubu_loss(nf4)
    compare_weights("nf4", peft_model(decoded, adapter), nf4, adapter)
    compare_answers("nf4", lambda: peft_model(decoded, adapter), nf4, adapter, nf4_loss)
    compare_text("nf4", peft_model(decoded, adapter), nf4, adapter)
    model = transformers.AutoModelForCausalLM.from_pretrained(nf4, device_map="cpu")
    model = peft.PeftModel.from_pretrained(model, adapter).eval()
    kinds = {type(m).__name__ for m in model.modules() if hasattr(m, "lora_A")}
    with_it = losses(model).mean().item()
    with model.disable_adapter():
        without = losses(model).mean().item()
    ours = tsubu_loss(nf4, "--adapter", adapter)
    # bitsandbytes computes in bfloat16: what that alone does to the base is the yardstick, at least half a unit of it.
    yardstick = max(abs(without - nf4_loss), 2.0**-9 * nf4_loss)
    check("nf4: PEFT on bitsandbytes", kinds == {"Linear4bit"} and abs(with_it - ours) <= FACTOR * yardstick,
          f"{sorted(kinds)}: {with_it:.4f}, tsubu {ours:.4f}; without the adapter {without:.4f}, tsubu {nf4_loss:.4f}")
    check("nf4: the answers change there as here", (with_it - without) * (ours - nf4_loss) > 0, f"{with_it - without:+.4f}, here {ours - nf4_loss:+.4f}")
    adapter = train(nf4, a.work / "peft-loftq", "--init", "loftq", "--float", a.model)
    compare_answers("nf4 from LoftQ", lambda: peft_model(decoded, adapter), nf4, adapter, nf4_loss)


def on_a_k_quant():
    q4 = fresh(a.work / "q4.gguf")
    run("quantize", a.model, "--to", "Q4_K_M", "-o", q4)
    adapter = train(q4, a.work / "q4-adapter.gguf")
    compare_llama("Q4_K_M", q4, adapter, KQUANT_NEAR)
    merged = fresh(a.work / "q4-merged.gguf")
    run("quantize", q4, "--adapter", adapter, "--to", "Q8_0", "-o", merged)
    with_it, rounded = tsubu_loss(q4, "--adapter", adapter), tsubu_loss(merged)
    check("Q4_K_M: merged and quantized anew", abs(rounded - with_it) < 0.01, f"{with_it:.4f}, merged to Q8_0 {rounded:.4f}")


def written_by_peft():
    """Two modules only, rank-stabilized scale."""
    base = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapter = fresh(a.work / "by-peft")
    peft.get_peft_model(base, config).save_pretrained(adapter)
    compare_answers("written by PEFT", lambda: peft_model(a.model, adapter), a.model, adapter, tsubu_loss(a.model))


PARTS = {"float": on_floats, "nf4": on_nf4, "k-quant": on_a_k_quant, "peft": written_by_peft}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tsubu")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--llama-perplexity")
    parser.add_argument("--only", choices=PARTS)
    a = parser.parse_args()
    TEXT, HELD = a.model / "README.md", a.model / "heldout.txt"  # the first is unlike what the model learned
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    a.work.mkdir(parents=True, exist_ok=True)
    for name, part in PARTS.items():
        if a.only in (None, name):
            part()
    finish()
