#!/usr/bin/env python3
"""Hugging Face layouts against the field's real clients.   layouts_client.py TSUBU MODEL_DIR WORK_DIR

Written by tsubu, read by clients: every scheme of every method. compressed-tensors decompresses each module, bitsandbytes
dequantizes it, GPTQ, AWQ and block FP8 are dequantized by NumPy from their published packing rules; the weights must be
those that tsubu reads from the same files, bit for bit. transformers then loads what it can load without a GPU and
generates.
Written by clients, read by tsubu: compressed-tensors' own compressors, bitsandbytes through transformers, GPTQ and AWQ
packed by NumPy, ModelOpt's and gpt-oss's byte orders by hand. Exit code 1 on any difference."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import gguf
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from client_checks import check, finish

os.environ.setdefault("TQDM_DISABLE", "1")
TSUBU, MODEL, WORK = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def run(*args):
    done = subprocess.run([TSUBU, *map(str, args), "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"tsubu {' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


def tsubu_weights(directory):
    """Weights as tsubu reads them, by Hugging Face name, F32."""
    out = WORK / "read-back"
    shutil.rmtree(out, ignore_errors=True)
    run("convert", directory, "--format", "hf", "--dtype", "F32", "-o", out)
    return {k: v.numpy() for k, v in load_file(out / "model.safetensors").items()}


def tensors_of(directory):
    merged = {}
    for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
        merged.update(load_file(path))
    return merged


def modules_of(tensors, suffix):
    return [n[: -len(suffix)] for n in tensors if n.endswith(suffix)]


# ---- NumPy references, from the published packing rules


def unpack_stream(words, bits, count):
    """words: (..., w) uint32, little-end-first stream of `bits`-bit fields -> (..., count)."""
    as_bits = (words[..., :, None] >> np.arange(32, dtype=np.uint32)) & 1
    flat = as_bits.reshape(*words.shape[:-1], -1)[..., : count * bits].reshape(*words.shape[:-1], count, bits)
    return (flat << np.arange(bits, dtype=np.uint32)).sum(-1).astype(np.int64)


def gptq_reference(t, module, config):
    qweight = t[module + ".qweight"].numpy().view(np.uint32)
    qzeros = t[module + ".qzeros"].numpy().view(np.uint32)
    scales, g_idx = t[module + ".scales"], t[module + ".g_idx"].long()
    bits, n = config["bits"], scales.shape[1]
    codes = unpack_stream(qweight.T, bits, len(g_idx))  # (N, K)
    zeros = unpack_stream(qzeros, bits, n)  # (G, N)
    if config["checkpoint_format"] == "gptq":
        zeros = (zeros + 1) & (2**bits - 1)
    zeros, codes = torch.from_numpy(zeros)[g_idx].T, torch.from_numpy(codes)
    return (scales[g_idx].T * (codes - zeros).to(scales.dtype)).float().numpy()


def awq_reference(t, module, config):
    def unpack(packed):  # (R, N/8) -> (R, N)
        nibbles = (packed[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15
        out = np.empty(nibbles.shape, np.int64)
        out[..., AWQ_ORDER] = nibbles
        return out.reshape(packed.shape[0], -1)
    codes, zeros = (unpack(t[module + s].numpy().view(np.uint32)) for s in (".qweight", ".qzeros"))
    scales, g = t[module + ".scales"], config["group_size"]
    rows = torch.arange(codes.shape[0]) // g
    return (scales[rows] * torch.from_numpy(codes - zeros[rows.numpy()]).to(scales.dtype)).float().numpy().T


def fp8_reference(t, module, config):
    w, scale = t[module + ".weight"].float(), t[module + ".weight_scale_inv"]
    block = config["weight_block_size"]
    full = scale.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[: w.shape[0], : w.shape[1]]
    return (w * full).to(torch.bfloat16).float().numpy()


# ---- clients


def ct_scheme(config, module):
    """The scheme of the group that names the module, else of the one for all linears."""
    from compressed_tensors.quantization import QuantizationConfig
    groups = list(QuantizationConfig.model_validate(config).config_groups.values())
    return next((g for g in groups if module in g.targets), groups[0])


def ct_reference(t, module, config):
    from compressed_tensors.compressors.base import BaseCompressor
    scheme = ct_scheme(config, module)
    state = {n[len(module) + 1:]: v for n, v in t.items() if n.startswith(module + ".") and not n.endswith(".bias")}
    compressor = BaseCompressor.get_value_from_registry(scheme.format)
    return compressor.decompress(state, scheme)["weight"].float().numpy()


def bnb_reference(t, module, config):
    import bitsandbytes.functional as F
    if module + ".SCB" in t:
        w = torch.ops.bitsandbytes.int8_vectorwise_dequant(t[module + ".weight"], t[module + ".SCB"])
        return w.to(torch.bfloat16).float().numpy()
    name = module + ".weight"
    stats = {n[len(name) + 1:]: v for n, v in t.items() if n.startswith(name + ".")}
    state = F.QuantState.from_dict(qs_dict=stats, device="cpu")
    return F.dequantize_4bit(t[name], state).float().numpy()


REFERENCES = {"gptq": (gptq_reference, ".qweight"), "awq": (awq_reference, ".qweight"), "fp8": (fp8_reference, ".weight_scale_inv"),
              "compressed-tensors": (ct_reference, None), "bitsandbytes": (bnb_reference, None)}


def module_names(method, tensors):
    if method == "compressed-tensors":
        return modules_of(tensors, ".weight_scale")
    if method == "bitsandbytes":
        return modules_of(tensors, ".weight.absmax") + modules_of(tensors, ".SCB")
    return modules_of(tensors, REFERENCES[method][1])


def compare(name, directory, method):
    tensors = tensors_of(directory)
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    ours, bad, names = tsubu_weights(directory), [], module_names(method, tensors)
    for module in names:
        theirs = REFERENCES[method][0](tensors, module, config)
        if theirs.tobytes() != ours[module + ".weight"].tobytes():
            bad.append(f"{module} by {np.abs(theirs - ours[module + '.weight']).max():.2e}")
    check(name, names and not bad, f"{len(names)} modules" if not bad else "; ".join(bad[:2]))


def generates(name, directory, expected):
    """transformers loads the directory, generates, and its logits are near those of the decoded weights."""
    import transformers
    options = {}
    if name.endswith("_ASYM"):
        # compressed-tensors 0.20 makes room for zero points that are not packed, so transformers loads no file with packed
        # ones, its own included, unless it decompresses them while loading.
        options["quantization_config"] = transformers.CompressedTensorsConfig(dequantize=True)
    # These two round activations to four bits in the client, which nothing here computes: the distance is printed, not judged.
    judged = not name.endswith((" MXFP4", " NVFP4"))
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(directory, device_map="cpu", **options)
        ids = torch.tensor([[1, 300, 301, 302]])
        with torch.no_grad():
            logits = model(ids).logits.float()
            out = model.generate(ids, max_new_tokens=4, do_sample=False)
        distance = ((logits - expected(ids)).norm() / expected(ids).norm()).item()
        check(name + ": transformers loads and generates", out.shape[1] >= 5 and (distance < 0.05 or not judged), f"logits differ by {distance:.1e}")
    except Exception as e:  # what a client refuses is a finding
        check(name + ": transformers loads and generates", False, f"{type(e).__name__}: {str(e)[:300]}")


def dequantized_logits(directory):
    import transformers
    out = WORK / "float"
    shutil.rmtree(out, ignore_errors=True)
    run("convert", directory, "--format", "hf", "--dtype", "F32", "-o", out)
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)

    def logits(ids):
        with torch.no_grad():
            return model(ids).logits.float()
    return logits


LOADABLE = {"compressed-tensors", "bitsandbytes"}
# Several schemes in one directory.
MIXED = {"two packed widths": ["down_proj=W8A16:32"], "layouts": ["down_proj=FP8_DYNAMIC", "layers.0.self_attn.[qkv]_proj=float"],
         "three": ["o_proj=W8A16", "gate_proj|up_proj=NVFP4A16"],
         # Compared but not loaded: transformers decompresses while loading with the first group's scheme alone.
         "zero points": ["o_proj=W4A16_ASYM:32"]}


def written_by_tsubu():
    schemes = json.loads(run("layouts", "--json"))["schemes"]
    for scheme in schemes:
        if scheme["method"] == "mxfp4":  # tensors of all experts: experts_client.py
            continue
        method, to = scheme["method"], scheme["name"]
        name = f"{method} {to}"
        out = WORK / "written" / f"{method}-{to}"
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        run("quantize", MODEL, "--format", method, "--to", to, "--method", "nearest", "-o", out)
        compare(name, out, method)
        if method in LOADABLE:
            generates(name, out, dequantized_logits(out))
    for label, overrides in MIXED.items():
        name, out = f"compressed-tensors mixed, {label}", WORK / "written" / "mixed"
        shutil.rmtree(out, ignore_errors=True)
        options = [word for o in overrides for word in ("--tensor-type", o)]
        run("quantize", MODEL, "--format", "compressed-tensors", "--to", "W4A16", *options, "-o", out)
        compare(name, out, "compressed-tensors")
        if label != "zero points":
            generates(name, out, dequantized_logits(out))


def like_model(folder, tensors, quantization, **config):
    """The model's directory with other tensors for its linears."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(MODEL, folder)
    base = {k: v for k, v in load_file(MODEL / "model.safetensors").items()
            if not (k.endswith("_proj.weight"))}
    save_file({**base, **{k: v.contiguous() for k, v in tensors.items()}}, folder / "model.safetensors", metadata={"format": "pt"})
    values = json.loads((MODEL / "config.json").read_text())
    values.update(quantization_config=quantization, **config)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def linears():
    return {k[:-7]: v for k, v in load_file(MODEL / "model.safetensors").items() if k.endswith("_proj.weight")}


def gptq_written(bits, sym, desc_act, label, v2):
    generator = torch.Generator().manual_seed(bits)
    tensors = {}
    for module, w in linears().items():
        n, k = w.shape
        g_idx = torch.arange(k) // 64
        if desc_act:
            g_idx = g_idx[torch.randperm(k, generator=generator)]
        codes = torch.randint(0, 2**bits, (n, k), generator=generator).numpy().astype(np.uint64)
        zeros = np.full((k // 64, n), 2 ** (bits - 1), np.uint64) if sym else \
            torch.randint(0, 2**bits, (k // 64, n), generator=generator).numpy().astype(np.uint64)

        def pack(fields):  # (R, C) -> (R, C*bits/32)
            spread = ((fields[..., None] >> np.arange(bits, dtype=np.uint64)) & 1).reshape(fields.shape[0], -1, 32)
            return torch.from_numpy((spread << np.arange(32, dtype=np.uint64)).sum(-1).astype(np.uint32).view(np.int32))
        stored = zeros if v2 else (zeros - 1) & np.uint64(2**bits - 1)
        tensors[module + ".qweight"] = pack(codes).T
        tensors[module + ".qzeros"] = pack(stored)
        tensors[module + ".scales"] = torch.rand((k // 64, n), generator=generator).half() / 100
        tensors[module + ".g_idx"] = g_idx.int()
    truth = {"bits": bits, "group_size": 64, "sym": sym, "desc_act": desc_act, "quant_method": "gptq",
             "checkpoint_format": "gptq_v2" if v2 else "gptq"}
    folder = like_model(WORK / "gptq", tensors, {**truth, "checkpoint_format": label or truth["checkpoint_format"]})
    ours = tsubu_weights(folder)
    bad = [m for m in linears() if gptq_reference(tensors, m, truth).tobytes() != ours[m + ".weight"].tobytes()]
    check(f"read gptq {bits} bit {'sym' if sym else 'asym'}{' act-order' if desc_act else ''}, "
          f"{'v2' if v2 else 'v1'}{' labelled ' + label if label else ''}", not bad, ", ".join(bad[:2]))


def ct_written(args, activations=None, scale_dtype=torch.bfloat16):
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.compressors.format import infer_module_format
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args),
                                input_activations=QuantizationArgs(**activations) if activations else None)
    form = infer_module_format(torch.nn.Linear, scheme).value
    scheme.format = form
    compressor = BaseCompressor.get_value_from_registry(form)
    tensors, truth = {}, {}
    generator = torch.Generator().manual_seed(3)
    for module, w in linears().items():
        n, k = w.shape
        g, bits = args.get("group_size") or k, args["num_bits"]
        blocks = w.float().reshape(n, k // g, g)
        top = {("int", 8): 127, ("float", 8): 448, ("float", 4): 6}.get((args["type"], bits), 2 ** (bits - 1))
        scale = blocks.abs().amax(-1) / top
        state = {"weight": w}
        if form.startswith("nvfp4"):
            state["weight_global_scale"] = (448 * 6 / w.float().abs().max()).reshape(1)
            scale = (scale * state["weight_global_scale"]).clamp(2**-9, 448).to(torch.float8_e4m3fn).to(torch.bfloat16)
        elif form.startswith("mxfp"):
            scale = 2.0 ** torch.ceil(torch.log2(scale))
        if args.get("strategy") == "tensor":
            scale = (w.float().abs().max() / top).reshape(1)
        state["weight_scale"] = scale.to(scale_dtype)
        if not args.get("symmetric", True):
            low = -(2 ** (bits - 1))
            state["weight_zero_point"] = torch.randint(low, -low, scale.shape, generator=generator).to(torch.int8)
        compressed = compressor.compress(state, scheme)
        truth[module] = compressor.decompress(compressed, scheme)["weight"].float().numpy()
        tensors.update({f"{module}.{key}": v for key, v in compressed.items()})
    config = {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "ignore": ["lm_head"],
              "config_groups": {"group_0": json.loads(scheme.model_dump_json())}}
    folder = like_model(WORK / "ct", tensors, config)
    ours = tsubu_weights(folder)
    bad = [m for m in truth if truth[m].tobytes() != ours[m + ".weight"].tobytes()]
    check(f"read compressed-tensors {form} {args['num_bits']} bit {args.get('strategy')}"
          f"{'' if args.get('symmetric', True) else ' asym'}", not bad, ", ".join(bad[:2]))


def bnb_written(**options):
    import transformers
    folder = WORK / "bnb"
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        MODEL, quantization_config=transformers.BitsAndBytesConfig(**options), device_map="cpu", dtype=torch.bfloat16)
    model.save_pretrained(folder)
    for path in MODEL.glob("tokenizer*"):
        shutil.copy(path, folder)
    compare(f"read bitsandbytes {options}", folder, "bitsandbytes")


def written_by_clients():
    gptq_written(4, True, False, None, False)
    gptq_written(4, True, False, "gptq", True)  # what vllm PR#38966 met
    gptq_written(4, True, False, "gptq_v2", False)
    for bits in (2, 3, 4, 8):
        gptq_written(bits, False, True, None, bits != 4)
    weights = {"type": "int", "symmetric": True, "strategy": "group", "group_size": 128}
    for bits in (2, 3, 4, 5, 6, 7, 8):
        ct_written({**weights, "num_bits": bits})
    ct_written({**weights, "num_bits": 4, "symmetric": False})
    ct_written({**weights, "num_bits": 3, "symmetric": False}, scale_dtype=torch.float16)
    tokens = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
    ct_written({"num_bits": 8, "type": "int", "strategy": "channel"}, tokens)
    floats = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
    ct_written({"num_bits": 8, "type": "float", "strategy": "channel"}, floats)
    ct_written({"num_bits": 8, "type": "float", "strategy": "tensor"}, floats, torch.float32)
    ct_written({"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"})
    ct_written({"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"})
    for kind in ("nf4", "fp4"):
        for double in (False, True):
            bnb_written(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double)
    bnb_written(load_in_8bit=True)


WORK.mkdir(parents=True, exist_ok=True)
written_by_tsubu()
written_by_clients()
finish()
