#!/usr/bin/env python3
"""Mixtures of experts in Hugging Face layouts against real clients.   experts_client.py TSUBU TINY WORK

TINY is what make_tiny_models.py wrote. gpt-oss: MXFP4 written by tsubu is unpacked by transformers' own function to the
floats that tsubu reads, loads in transformers with the logits of those floats, comes back from GGUF with the same
bytes, and MXFP4 packed by a NumPy writer is read exactly. Mixtral and Qwen3-MoE: the float directory made of a GGUF file holds
the weights of the original; compressed-tensors decompresses each expert to tsubu's weights, GPTQ and AWQ are unpacked by
NumPy, rounded to nearest and with error feedback; AWQ's modules of DeepSeek include kv_b_proj; transformers loads W4A16 and FP8_DYNAMIC with the logits of the decoded floats. Exit code 1 on any difference."""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from client_checks import check, finish, runner

TSUBU, TINY, WORK = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


run = runner(TSUBU)


def floats(directory):
    out = WORK / "floats"
    run("convert", directory, "--format", "hf", "--dtype", "F32", out=out)
    return load_file(out / "model.safetensors")


@torch.no_grad()
def logits(directory, **options):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, device_map="cpu", **options)
    return model(torch.tensor([[1, 300, 301, 302, 7, 900]])).logits.float()


def same_logits(name, directory, reference, limit=2e-2, **options):
    try:
        ours, theirs = logits(directory, **options), logits(reference)
        distance = ((ours - theirs).norm() / theirs.norm()).item()
        check(f"{name}: transformers loads it", distance <= limit, f"logits differ by {distance:.1e}")
    except Exception as e:  # what a client refuses is a finding
        check(f"{name}: transformers loads it", False, f"{type(e).__name__}: {str(e)[:300]}")


def gpt_oss(name):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    packed, back = WORK / f"{name}-mxfp4", WORK / f"{name}-again"
    run("quantize", TINY / name, "--format", "mxfp4", out=packed)
    tensors, ours = load_file(packed / "model.safetensors"), floats(packed)
    for module in [n[:-7] for n in tensors if n.endswith("_blocks")]:
        theirs = convert_moe_packed_tensors(tensors[module + "_blocks"], tensors[module + "_scales"], dtype=torch.float32)
        check(f"{name} {module}", torch.equal(theirs, ours[module]))
    run("convert", packed, "-o", WORK / f"{name}.gguf")
    run("convert", WORK / f"{name}.gguf", "--format", "mxfp4", "--base", packed, out=back)
    again = load_file(back / "model.safetensors")
    mx = [n for n in tensors if n.endswith(("_blocks", "_scales"))]
    check(f"{name}: to GGUF and back", mx and all(torch.equal(tensors[n], again[n]) for n in mx), f"{len(mx)} tensors")
    # Any codes and scales, as another writer makes them.
    generator = np.random.default_rng(5)
    other = dict(tensors)
    for n in mx:
        low, high = (0, 256) if n.endswith("_blocks") else (110, 128)
        other[n] = torch.from_numpy(generator.integers(low, high, tuple(tensors[n].shape), dtype=np.uint8))
    random = WORK / f"{name}-random"
    shutil.rmtree(random, ignore_errors=True)
    shutil.copytree(packed, random)
    save_file(other, random / "model.safetensors", metadata={"format": "pt"})
    ours = floats(random)
    bad = [m for m in {n[:-7] for n in mx} if not torch.equal(
        convert_moe_packed_tensors(other[m + "_blocks"], other[m + "_scales"], dtype=torch.float32), ours[m])]
    check(f"{name}: any codes and scales", not bad, ", ".join(bad))
    run("convert", packed, "--format", "hf", "--dtype", "F32", out=WORK / "decoded")
    same_logits(f"{name} mxfp4", packed, WORK / "decoded", quantization_config=transformers.Mxfp4Config(dequantize=True))


def unpack(words, bits, count):
    as_bits = (words[..., :, None] >> np.arange(32, dtype=np.uint32)) & 1
    flat = as_bits.reshape(*words.shape[:-1], -1)[..., : count * bits].reshape(*words.shape[:-1], count, bits)
    return (flat << np.arange(bits, dtype=np.uint32)).sum(-1).astype(np.int64)


def gptq_weights(t, module):
    qweight, qzeros = (t[module + s].numpy().view(np.uint32) for s in (".qweight", ".qzeros"))
    scales, g_idx = t[module + ".scales"], t[module + ".g_idx"].long()
    codes = torch.from_numpy(unpack(qweight.T, 4, len(g_idx)))
    zeros = torch.from_numpy((unpack(qzeros, 4, scales.shape[1]) + 1) & 15)[g_idx].T
    return (scales[g_idx].T * (codes - zeros).to(scales.dtype)).float()


def awq_weights(t, module):
    def nibbles(packed):
        fields = (packed[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15
        out = np.empty(fields.shape, np.int64)
        out[..., AWQ_ORDER] = fields
        return torch.from_numpy(out.reshape(packed.shape[0], -1))
    codes, zeros = (nibbles(t[module + s].numpy().view(np.uint32)) for s in (".qweight", ".qzeros"))
    scales = t[module + ".scales"]
    rows = torch.arange(codes.shape[0]) // (codes.shape[0] // scales.shape[0])
    return (scales[rows] * (codes - zeros[rows]).to(scales.dtype)).float().T


def ct_weights(directory):
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    scheme = next(iter(QuantizationConfig.model_validate(config).config_groups.values()))
    scheme.format = scheme.format or config["format"]
    compressor = BaseCompressor.get_value_from_registry(config["format"])

    def weights(t, module):
        state = {n[len(module) + 1:]: v for n, v in t.items() if n.startswith(module + ".")}
        return compressor.decompress(state, scheme)["weight"].float()
    return weights


def mixture(name):
    gguf, back = WORK / f"{name}.gguf", WORK / f"{name}-hf"
    run("convert", TINY / name, "-o", gguf)
    run("convert", gguf, "--format", "hf", "--base", TINY / name, out=back)
    ours, theirs = load_file(back / "model.safetensors"), load_file(TINY / name / "model.safetensors")
    check(f"{name}: hf from GGUF", ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in theirs), f"{len(theirs)} tensors")
    same_logits(f"{name} hf", back, TINY / name, 0)
    nearest, fed = ("--method", "nearest"), ("--text", TINY / "text.txt", "--ctx", "128", "--chunks", "8")
    for method, to, anchor, how in (("compressed-tensors", "W4A16", ".weight_packed", nearest), ("compressed-tensors", "NVFP4A16", ".weight_packed", nearest),
                                    ("compressed-tensors", "FP8_DYNAMIC", ".weight_scale", nearest), ("gptq", "W4A16", ".qweight", nearest),
                                    ("awq", "W4A16_ASYM", ".qweight", nearest), ("compressed-tensors", "W4A16", ".weight_packed", fed),
                                    ("gptq", "W4A16", ".qweight", fed), ("awq", "W4A16_ASYM", ".qweight", fed)):
        out = WORK / f"{name}-{method}-{to}"
        run("quantize", TINY / name, "--format", method, "--to", to, *how, out=out)
        if how is fed:
            methods = [t["method"] for t in json.loads((out / "tsubu_manifest.json").read_text())["tensors"] if ".experts." in t["name"]]
            check(f"{name} {method} {to}: experts with feedback", "gptq+refine" in methods, str(set(methods)))
        tensors, ours = load_file(out / "model.safetensors"), floats(out)
        modules = [n[: -len(anchor)] for n in tensors if n.endswith(anchor)]
        weights = {"gptq": gptq_weights, "awq": awq_weights}.get(method) or ct_weights(out)
        bad = [m for m in modules if not torch.equal(weights(tensors, m), ours[m + ".weight"])]
        n_experts = sum(".experts." in m for m in modules)
        check(f"{name} {method} {to}", n_experts > 0 and not bad, f"{len(modules)} modules, {n_experts} of experts {bad[:2]}")
        # Logits are those of the decoded weights, without FP8_DYNAMIC's rounding of activations. NVFP4 is decoded to bfloat16
        # inside a model of another type, which torch refuses.
        if method == "compressed-tensors" and to != "NVFP4A16":
            run("convert", out, "--format", "hf", "--dtype", "F32", out=WORK / "decoded")
            same_logits(f"{name} {method} {to}", weights_alone(out), WORK / "decoded", 2e-2)


def block_fp8(name):
    """The published form of DeepSeek V3: every linear of the blocks in FP8, 128 x 128 weights under a scale; kv_b_proj as well,
    whose rows are keys and values of heads."""
    out, block = WORK / f"{name}-block-fp8", 128
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(TINY / name, out)
    tensors, truth = {}, {}
    for module, w in load_file(TINY / name / "model.safetensors").items():
        if not module.endswith("_proj.weight") and not module.endswith("_with_mqa.weight"):
            tensors[module] = w
            continue
        rows, cols = w.shape
        padded = torch.zeros(-(-rows // block) * block, -(-cols // block) * block)
        padded[:rows, :cols] = w.float()
        tiles = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block)
        scale = tiles.abs().amax((1, 3)) / 448
        full = scale.repeat_interleave(block, 0).repeat_interleave(block, 1)[:rows, :cols]
        codes = (w.float() / full).to(torch.float8_e4m3fn)
        tensors[module], tensors[module + "_scale_inv"] = codes, scale
        truth[module] = codes.float() * full  # in the model's type, F32
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [block, block]}
    (out / "config.json").write_text(json.dumps(config))
    ours = floats(out)
    bad = [m for m in truth if not torch.equal(truth[m], ours[m])]
    check(f"{name}: block FP8 as published", truth and not bad, f"{len(truth)} modules {bad[:2]}")


def weights_alone(directory):
    """A copy whose configuration rounds no activations."""
    out = WORK / "weights-alone"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(directory, out)
    config = json.loads((out / "config.json").read_text())
    for group in config["quantization_config"]["config_groups"].values():
        group["input_activations"] = None
    (out / "config.json").write_text(json.dumps(config))
    return out


WORK.mkdir(parents=True, exist_ok=True)
transformers.utils.logging.disable_progress_bar()
for model, compare in (("gpt-oss", gpt_oss), ("gpt-oss-truncate", gpt_oss), ("mixtral", mixture), ("mixtral-4", mixture), ("qwen3moe", mixture),
                       ("deepseek3", mixture), ("deepseek2-lite", mixture), ("deepseek3", block_fp8)):
    if (TINY / model).exists():
        compare(model)
    else:
        print(f"left out {model}: not among the models made (its tokenizer was not there)")
finish()
