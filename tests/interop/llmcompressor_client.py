#!/usr/bin/env python3
"""What llm-compressor quantizes and saves, read by tsubu.   llmcompressor_client.py TSUBU MODEL_DIR WORK_DIR

Each recipe runs on the CPU with a few windows of the model's calibration text. The weights that compressed-tensors decompresses
from the saved files must be those that tsubu reads from them, bit for bit; llm-compressor pins an older compressed-tensors than
the other scripts use, so two versions of the client are held to. Exit code 1 on any difference."""
import json
import pathlib
import shutil
import subprocess
import sys

import torch
import transformers
from datasets import Dataset
from safetensors.torch import load_file

from client_checks import check, finish

TSUBU, MODEL, WORK = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]).resolve()


def tsubu_weights(directory):
    out = WORK / "read-back"
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([TSUBU, "convert", directory, "--format", "hf", "--dtype", "F32", "-o", out, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return load_file(out / "model.safetensors")


def decompressed(directory):
    """Each module's weight as compressed-tensors decompresses it in the type of the model."""
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    groups = list(QuantizationConfig.model_validate(config).config_groups.values())
    tensors, weights = load_file(directory / "model.safetensors"), {}
    for module in [n[:-13] for n in tensors if n.endswith(".weight_scale")]:
        scheme = next((g for g in groups if module in g.targets), groups[0])
        scheme.format = scheme.format or config["format"]
        state = {n[len(module) + 1:]: v for n, v in tensors.items() if n.startswith(module + ".") and not n.endswith(".bias")}
        weights[module] = BaseCompressor.get_value_from_registry(scheme.format).decompress(state, scheme)["weight"].float()
    return weights


def rows():
    import sentencepiece
    words = sentencepiece.SentencePieceProcessor(model_file=str(MODEL / "tokenizer.model"))
    ids = words.encode((MODEL / "calib.txt").read_text()[:40_000])
    return Dataset.from_list([{"input_ids": ids[i:i + 128], "attention_mask": [1] * 128} for i in range(0, 16 * 128, 128)])


def quantized(name, recipe, **options):
    from llmcompressor import oneshot
    out = WORK / "written"
    shutil.rmtree(out, ignore_errors=True)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
        oneshot(model=model, recipe=recipe, **options)
        model.save_pretrained(out, save_compressed=True)
    except Exception as e:
        return check(f"llm-compressor {name}", False, f"{type(e).__name__}: {str(e)[:300]}")
    for path in MODEL.glob("tokenizer*"):
        shutil.copy(path, out)
    theirs, ours = decompressed(out), tsubu_weights(out)
    bad = [f"{n} by {(w - ours[n + '.weight']).abs().max():.2e}" for n, w in theirs.items() if not torch.equal(w, ours[n + ".weight"])]
    check(f"read llm-compressor {name}", theirs and not bad, f"{len(theirs)} modules {'; '.join(bad[:2])}")


def main():
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
    text = dict(dataset=rows(), max_seq_length=128, num_calibration_samples=16)
    linears = dict(targets="Linear", ignore=["lm_head"])
    for scheme in ("W4A16", "W4A16_ASYM", "W8A16"):
        quantized(f"GPTQ {scheme}", GPTQModifier(scheme=scheme, **linears), **text)
    for order in ("weight", "static"):
        quantized(f"GPTQ W4A16 in the order of {order}", GPTQModifier(scheme="W4A16", actorder=order, **linears), **text)
    for scheme in ("FP8_DYNAMIC", "FP8_BLOCK", "W8A8", "NVFP4A16", "MXFP4A16"):
        quantized(scheme, QuantizationModifier(scheme=scheme, **linears))
    quantized("FP8 with static activations", QuantizationModifier(scheme="FP8", **linears), **text)
    quantized("NVFP4", QuantizationModifier(scheme="NVFP4", **linears), **text)


WORK.mkdir(parents=True, exist_ok=True)
transformers.utils.logging.disable_progress_bar()
main()
finish()
