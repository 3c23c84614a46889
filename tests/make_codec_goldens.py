"""Writes tests/golden/codec/<TYPE>.bin: valid blocks and what the `gguf` package decodes them to.

Usage: make_codec_goldens.py OUT_DIR      (needs numpy and gguf; the files are committed, so tests need neither)

Layout, little-endian: u32 n_blocks, u32 block_bytes, u32 block_len; the blocks; one u64 per block (FNV-1a of its decoded
floats' bytes, every NaN first replaced by 0x7fc00000); the first block's floats. The last block of a type with f16 scales
has an infinite one; the others cover zero, negative, subnormal and largest finite scales.
"""
import pathlib
import sys

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

# Byte offsets of the f16 fields of a block. IQ1_M's scale is spread over the top nibbles of four words.
HALF_FIELDS = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q8_1": [0, 2], "Q1_0": [0], "Q2_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
    "IQ1_S": [0], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "TQ1_0": [52], "TQ2_0": [64],
}
SPECIAL_HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00, 0x1400]


def fnv1a(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def set_half(blocks, name, i, field, bits):
    if name == "IQ1_M":
        for k in range(4):
            blocks[i, 49 + 2 * k] = blocks[i, 49 + 2 * k] & 0x0F | (bits >> 4 * k & 15) << 4
    else:
        blocks[i, field] = bits & 255
        blocks[i, field + 1] = bits >> 8


def random_blocks(name, n_blocks, block_bytes, rng):
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
    fields = HALF_FIELDS.get(name, [0] if name == "IQ1_M" else [])
    for i in range(n_blocks):
        for k, field in enumerate(fields):
            usual = int(np.float16(rng.normal() * 0.01).view(np.uint16))
            bits = SPECIAL_HALVES[(i - 2 + 3 * k) % len(SPECIAL_HALVES)] if 2 <= i < 2 + len(SPECIAL_HALVES) else usual
            set_half(blocks, name, i, field, 0x7C00 if i == n_blocks - 1 and k == 0 else bits)
    return blocks


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for t in T:
        block_len, block_bytes = GGML_QUANT_SIZES[t]
        n_blocks = {1: 256, 32: 64}.get(block_len, 16)
        blocks = random_blocks(t.name, n_blocks, block_bytes, np.random.default_rng(int(t)))
        try:
            with np.errstate(all="ignore"):
                y = gguf.quants.dequantize(blocks.reshape(1, -1), t)
        except NotImplementedError:
            print(f"{t.name}: the package does not decode it")
            continue
        y = np.ascontiguousarray(y, dtype=np.float32).reshape(n_blocks, block_len)
        bits = y.view(np.uint32).copy()
        bits[np.isnan(y)] = 0x7FC00000
        hashes = np.array([fnv1a(row.tobytes()) for row in bits], dtype=np.uint64)
        header = np.array([n_blocks, block_bytes, block_len], dtype=np.uint32)
        data = header.tobytes() + blocks.tobytes() + hashes.tobytes() + bits[0].tobytes()
        assert len(data) <= 8192, t.name
        (out / f"{t.name}.bin").write_bytes(data)


main()
