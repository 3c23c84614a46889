#!/usr/bin/env python3
"""GPTQ and AWQ directories against the tools that make them.   quantizers_client.py TSUBU MODEL_DIR WORK_DIR [STEP]

gptqmodel loads what tsubu writes, its torch kernel's dequantized weights are the ones that tsubu reads from the same files,
bit for bit, and it generates; AutoAWQ's own dequantization does the same for AWQ. What gptqmodel quantizes and saves, and
what AutoAWQ's packer packs, tsubu reads to the same bits. Both run without a GPU; AutoAWQ's package as a whole no longer
imports beside today's transformers, so its modules are loaded one by one. Exit code 1 on any difference."""
import importlib.util
import json
import os
import pathlib
import shutil
import sys
import types

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it wants two, and takes half of the processors
import torch
from safetensors.torch import load_file, save_file

from client_checks import check, finish, runner

TSUBU, MODEL, WORK = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]).resolve()


run = runner(TSUBU)


def tsubu_weights(directory):
    run("convert", directory, "--format", "hf", "--dtype", "F32", out=WORK / "read-back")
    return load_file(WORK / "read-back" / "model.safetensors")


# ---- gptqmodel


def quant_linears(model):
    """Modules with packed codes, by their name in the file."""
    return {name: m for name, m in model.model.named_modules() if hasattr(m, "qweight") and hasattr(m, "scales")}


def loaded_weights(directory, backend):
    from gptqmodel import GPTQModel
    model = GPTQModel.load(str(directory), backend=backend, device="cpu", dtype=torch.float16)
    weights = {}
    for name, module in quant_linears(model).items():
        with torch.no_grad():
            if hasattr(module, "dequantize_weight"):
                weight = module.dequantize_weight()
            else:  # of AWQ
                weight = module._dequantize_weight_for_inference(torch.zeros(1, 1, dtype=torch.float16), dtype=torch.float16)
        weights[name] = weight.float().T.contiguous()  # it multiplies from the right
    return model, weights


def compare(name, directory, backend, generates=True):
    try:
        model, theirs = loaded_weights(directory, backend)
    except Exception as e:  # what a client refuses is a finding
        return check(name, False, f"{type(e).__name__}: {str(e)[:300]}")
    ours = tsubu_weights(directory)
    bad = [f"{n} by {(w - ours[n + '.weight']).abs().max():.2e}" for n, w in theirs.items() if not torch.equal(w, ours[n + ".weight"])]
    check(name, theirs and not bad, f"{len(theirs)} modules" if not bad else "; ".join(bad[:2]))
    if not generates:
        return
    ids = torch.tensor([[1, 300, 301, 302]])
    with torch.no_grad():
        out = model.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    check(f"{name}: generates", out.shape[1] >= 5)


def gptq_written_by_tsubu():
    from gptqmodel import BACKEND
    for to, group in (("W4A16", 128), ("W4A16", 32), ("W4A16_ASYM", 64), ("W8A16", 128), ("W2A16", 64), ("W3A16", 64)):
        out = WORK / f"gptq-{to}-{group}"
        run("quantize", MODEL, "--format", "gptq", "--to", to, "--group-size", group, "--method", "nearest", out=out)
        compare(f"gptqmodel reads gptq {to} group {group}", out, BACKEND.GPTQ_TORCH, generates=to.startswith("W4"))


def awq_written_by_tsubu():
    from gptqmodel import BACKEND
    for group in (128, 32):
        out = WORK / f"awq-{group}"
        run("quantize", MODEL, "--format", "awq", "--to", "W4A16_ASYM", "--group-size", group, "--method", "nearest", out=out)
        compare(f"gptqmodel reads awq W4A16_ASYM group {group}", out, BACKEND.AWQ_TORCH)


def calibration_rows():
    import sentencepiece
    words = sentencepiece.SentencePieceProcessor(model_file=str(MODEL / "tokenizer.model"))
    ids = words.encode((MODEL / "calib.txt").read_text()[:60_000])
    return [{"input_ids": ids[i:i + 128], "attention_mask": [1] * 128} for i in range(0, 32 * 128, 128)]


def written_by_gptqmodel():
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    for bits, group, options in ((4, 128, {}), (4, 64, {"desc_act": True}), (8, 128, {}), (4, 32, {"sym": False}), (3, 64, {})):
        out = WORK / "by-gptqmodel"
        shutil.rmtree(out, ignore_errors=True)
        name = f"read gptqmodel {bits} bit group {group} {' '.join(options) or ''}".rstrip()
        try:
            model = GPTQModel.load(str(MODEL), QuantizeConfig(bits=bits, group_size=group, **options), device="cpu")
            model.quantize(calibration_rows(), batch_size=1)
            model.save(str(out))
        except Exception as e:
            check(name, False, f"{type(e).__name__}: {str(e)[:300]}")
            continue
        for path in MODEL.glob("tokenizer*"):
            if not (out / path.name).exists():
                shutil.copy(path, out)
        compare(name, out, BACKEND.GPTQ_TORCH, generates=False)


# ---- AutoAWQ


AWQ_ROOT = pathlib.Path(importlib.util.find_spec("awq").submodule_search_locations[0])


def autoawq(module):
    """One module of the installed package, without what its __init__ imports."""
    for package in ("awq", "awq.utils", "awq.modules", "awq.modules.linear"):
        if package not in sys.modules:
            stub = types.ModuleType(package)
            stub.__path__ = [str(AWQ_ROOT.joinpath(*package.split(".")[1:]))]
            sys.modules[package] = stub
    return importlib.import_module(module)


def awq_references(directory):
    dequantize = autoawq("awq.utils.packing_utils").dequantize_gemm
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    tensors, weights = load_file(directory / "model.safetensors"), {}
    for name in [n[:-8] for n in tensors if n.endswith(".qweight")]:
        weights[name] = dequantize(tensors[name + ".qweight"], tensors[name + ".qzeros"], tensors[name + ".scales"], config["bits"],
                                   config["group_size"]).float().T.contiguous()
    return weights


def autoawq_reads():
    for group in (128, 32):
        theirs, ours = awq_references(WORK / f"awq-{group}"), tsubu_weights(WORK / f"awq-{group}")
        bad = [n for n, w in theirs.items() if not torch.equal(w, ours[n + ".weight"])]
        check(f"AutoAWQ dequantizes W4A16_ASYM group {group}", theirs and not bad, f"{len(theirs)} modules {bad[:2]}")


def written_by_autoawq():
    gemm = autoawq("awq.modules.linear.gemm").WQLinear_GEMM
    base = load_file(MODEL / "model.safetensors")
    for group in (128, 64):
        generator, tensors = torch.Generator().manual_seed(group), {}
        for name, weight in base.items():
            if not name.endswith("_proj.weight"):
                tensors[name] = weight
                continue
            n, k = weight.shape
            linear = torch.nn.Linear(k, n, bias=False).half()
            scales = (torch.rand((n, k // group), generator=generator) / 100 + 1e-3).half()
            zeros = torch.randint(0, 16, (n, k // group), generator=generator)
            codes = torch.randint(0, 16, (n, k), generator=generator)
            spread = lambda v: v.repeat_interleave(group, 1)
            linear.weight.data = ((codes - spread(zeros)).half() * spread(scales)).half()
            packed = gemm.from_linear(linear, 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous())
            for part in ("qweight", "qzeros", "scales"):
                tensors[f"{name[:-7]}.{part}"] = getattr(packed, part).contiguous()
        out = WORK / "by-autoawq"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(MODEL, out)
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((MODEL / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True,
                                         "modules_to_not_convert": None}
        config["torch_dtype"] = "float16"
        (out / "config.json").write_text(json.dumps(config))
        theirs, ours = awq_references(out), tsubu_weights(out)
        bad = [n for n, w in theirs.items() if not torch.equal(w, ours[n + ".weight"])]
        check(f"read AutoAWQ's packer, group {group}", theirs and not bad, f"{len(theirs)} modules {bad[:2]}")


WORK.mkdir(parents=True, exist_ok=True)
os.chdir(WORK)  # gptqmodel writes its logs where it runs
for step in (gptq_written_by_tsubu, awq_written_by_tsubu, autoawq_reads, written_by_autoawq, written_by_gptqmodel):
    if len(sys.argv) < 5 or sys.argv[4] in step.__name__:
        step()
finish()
