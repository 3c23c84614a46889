#!/usr/bin/env python3
"""Checkpoints with wrong labels and broken scales.   lint_client.py TSUBU MODEL_DIR TINY WORK

Each case breaks a directory that tsubu wrote in one way that files in the field are broken. `tsubu lint` has to find it, at the
level said here and under the name said here; `eval` and `convert` of it end with an answer or an error message, never by a
signal. TINY is what make_tiny_models.py wrote (for experts). Exit code 1 when something was missed."""
import json
import pathlib
import re
import shutil
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

from client_checks import check, finish

TSUBU, MODEL, TINY, WORK = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])


def run(*args, out=None):
    if out is not None:
        shutil.rmtree(out, ignore_errors=True)
        args = (*args, "-o", out)
    return subprocess.run([TSUBU, *map(str, args), "--quiet"], capture_output=True, text=True, timeout=300)


class Files:
    """A copy of a written directory: tensors and configuration to change, then saved."""

    def __init__(self, name, source):
        self.folder = WORK / name
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(source, self.folder)
        self.tensors = load_file(self.folder / "model.safetensors")
        self.config = json.loads((self.folder / "config.json").read_text())
        self.quantization = self.config.get("quantization_config", {})

    def save(self):
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, self.folder / "model.safetensors", metadata={"format": "pt"})
        (self.folder / "config.json").write_text(json.dumps(self.config))
        (self.folder / "quantize_config.json").unlink(missing_ok=True)


def written(name, *options, model=MODEL):
    out = WORK / "good" / name
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        done = run("quantize", model, *options, "--method", "nearest", out=out)
        if done.returncode:
            raise RuntimeError(done.stderr)
    return out


CASES = []


def case(level, pattern, source, *options, model=None):
    def add(change):
        CASES.append((change.__name__, level, pattern, source, options, model, change))
    return add


GPTQ = ("--format", "gptq", "--to", "W4A16", "--group-size", "64")
Q = "model.layers.1.self_attn.q_proj"
UP = "model.layers.2.mlp.up_proj"


@case("error", "version 1.*zeros as version 2 stores them", "gptq", *GPTQ)
def wrong_zero_point_version(f):
    for name in [n for n in f.tensors if n.endswith(".qzeros")]:
        f.tensors[name] = torch.full_like(f.tensors[name], -0x77777778)  # 8 in every nibble


@case("error", "look like version 2", "gptq-asym", "--format", "gptq", "--to", "W4A16_ASYM", "--group-size", "64")
def wrong_label_of_asymmetric_zeros(f):
    f.quantization["checkpoint_format"] = "gptq"


@case("error", "group_size: .* differ", "gptq", *GPTQ)
def group_size_lie(f):
    f.quantization["group_size"] = 128


@case("error", "sym is true, but the zeros", "gptq-asym", "--format", "gptq", "--to", "W4A16_ASYM", "--group-size", "64")
def swapped_sym(f):
    f.quantization["sym"] = True


@case("error", "bits: .* differ", "gptq", *GPTQ)
def bits_lie(f):
    f.quantization["bits"] = 8


@case("error", "scales are NaN or infinite", "gptq", *GPTQ)
def nan_scales(f):
    f.tensors[Q + ".scales"][0, 3] = float("nan")


@case("error", "scales are NaN or infinite", "fp8", "--format", "compressed-tensors", "--to", "FP8_DYNAMIC")
def infinite_scales(f):
    f.tensors[Q + ".weight_scale"][5] = float("inf")


@case("error", "scales are 0", "awq", "--format", "awq", "--to", "W4A16_ASYM", "--group-size", "64")
def zero_scales(f):
    f.tensors[UP + ".scales"][1] = 0


@case("warning", "groups are saturated", "gptq", *GPTQ)
def saturated_blocks(f):
    f.tensors[UP + ".qweight"][:] = -0x0f0f0f10  # 0 and 15 in turn


@case("error", "experts.3.up_proj.weight .* is missing", "experts", "--format", "gptq", "--to", "W4A16", "--group-size", "128",
      model="qwen3moe")
def missing_expert(f):
    for name in [n for n in f.tensors if "layers.1.mlp.experts.3.up_proj" in n]:
        del f.tensors[name]


@case("error", "tokenizer has 4096 tokens, the embedding only 4000 rows", "gptq", *GPTQ)
def embedding_shorter_than_tokenizer(f):
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        f.tensors[name] = f.tensors[name][:4000]
    f.config["vocab_size"] = 4000


@case("error", "groups below", "gptq", *GPTQ)
def g_idx_out_of_range(f):
    f.tensors[Q + ".g_idx"][7] = 4096


@case("error", "upside down", "fp8-block", "--format", "fp8", "--to", "FP8_BLOCK")
def fp8_scale_inverted(f):
    for name in [n for n in f.tensors if n.endswith("_scale_inv")]:
        f.tensors[name] = 1 / f.tensors[name]


@case("error", "upside down", "fp8", "--format", "compressed-tensors", "--to", "FP8_DYNAMIC")
def fp8_channel_scale_inverted(f):
    for name in [n for n in f.tensors if n.endswith("_scale")]:
        f.tensors[name] = 1 / f.tensors[name]


@case("error", "upside down", "nvfp4", "--format", "compressed-tensors", "--to", "NVFP4A16")
def nvfp4_global_scale_inverted(f):
    for name in [n for n in f.tensors if n.endswith("_global_scale")]:
        f.tensors[name] = 1 / f.tensors[name]


@case("error", 'says quant_method "awq"', "gptq", *GPTQ)
def method_swapped(f):
    f.quantization["quant_method"] = "awq"


@case("error", "no quantization_config", "gptq", *GPTQ)
def no_configuration(f):
    del f.config["quantization_config"]


def survives(name, what, done):
    crashed = done.returncode < 0 or done.returncode >= 128 or (done.returncode and not done.stderr.strip())
    check(f"{name}: {what} ends in order", not crashed, f"exit {done.returncode} {done.stderr.strip().splitlines()[-1][:150] if done.stderr.strip() else ''}")


WORK.mkdir(parents=True, exist_ok=True)
for name, level, pattern, source, options, model, change in CASES:
    if model and not (TINY / model).exists():
        print(f"left out {name}: {model} is not among the models made")
        continue
    good = written(source, *options, model=TINY / model if model else MODEL)
    sound = json.loads(run("lint", good, "--json").stdout)
    files = Files(name, good)
    change(files)
    files.save()
    done = run("lint", files.folder, "--json")
    findings = json.loads(done.stdout)["findings"] if done.stdout else []
    found = [f for f in findings if f["level"] == level and re.search(pattern, f["message"])]
    new = len(findings) - len(sound["findings"])
    check(f"{name}: lint says it", found and sound["errors"] == 0 and done.returncode == (1 if level == "error" else 0),
          f"{found[0]['message'][:160]}" if found else f"exit {done.returncode}, {new} new findings: {[f['message'][:120] for f in findings][:3]} {done.stderr[:200]}")
    survives(name, "lint", done if done.returncode not in (0, 1) else subprocess.CompletedProcess([], 0, "", ""))
    survives(name, "eval", run("eval", files.folder, "--text", MODEL / "heldout.txt", "--chunks", "1", "--ctx", "64"))
    survives(name, "convert", run("convert", files.folder, out=WORK / "converted.gguf") if not (WORK / "converted.gguf").unlink(missing_ok=True) else None)
finish()
