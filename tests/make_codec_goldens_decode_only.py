#!/usr/bin/env python3
"""Writes tests/golden/codec/<TYPE>.bin for the types that the `gguf` package cannot decode, from their definitions.

Usage: make_codec_goldens_decode_only.py OUT_DIR      (needs numpy; the files are committed, so tests do not)

The layout is that of make_codec_goldens.py.
"""

import pathlib
import sys

import numpy as np


def halves(blocks, offset):
    return np.ascontiguousarray(blocks[:, offset : offset + 2]).view("<f2").astype(np.float32)


def bits_of(blocks, begin, width):
    """Codes of `width` bits, lowest bits of each byte first."""
    bits = np.unpackbits(blocks[:, begin:], axis=1, bitorder="little").reshape(len(blocks), -1, width)
    return (bits * (1 << np.arange(width))).sum(axis=2).astype(np.float32)


def q8_k(b):
    return np.ascontiguousarray(b[:, :4]).view("<f4") * b[:, 4:260].view(np.int8).astype(np.float32)


# name: (block_len, block_bytes, decode); formulas as llama.cpp's block definitions state them
TYPES = {
    "Q8_1": (32, 36, lambda b: halves(b, 0) * b[:, 4:].view(np.int8).astype(np.float32)),
    "Q8_K": (256, 292, q8_k),
    "Q1_0": (128, 18, lambda b: np.where(bits_of(b, 2, 1) == 1, halves(b, 0), -halves(b, 0))),
    "Q2_0": (64, 18, lambda b: halves(b, 0) * (bits_of(b, 2, 2) - np.float32(1))),
    "I8": (1, 1, lambda b: b.view("<i1").astype(np.float32)),
    "I16": (1, 2, lambda b: b.view("<i2").astype(np.float32)),
    "I32": (1, 4, lambda b: b.view("<i4").astype(np.float32)),
    "I64": (1, 8, lambda b: b.view("<i8").astype(np.float32)),
    "F64": (1, 8, lambda b: b.view("<f8").astype(np.float32)),
}
SPECIAL_HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00, 0x7C00]
SPECIAL_FLOATS = [0.0, -0.0, 1e-45, -1e-40, 2.0**-126, 3.4028234e38, -3.4028234e38, 1.0, -1.0, np.inf]


def random_blocks(name, n_blocks, block_bytes, rng):
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
    for i in range(n_blocks):
        scale = rng.normal() * 0.01
        k = i - 2
        if name in ("Q8_1", "Q1_0", "Q2_0"):
            half = np.uint16(SPECIAL_HALVES[k]) if 0 <= k < 10 else np.float16(scale).view(np.uint16)
            blocks[i, :2] = np.frombuffer(half.tobytes(), dtype=np.uint8)
        if name == "Q8_K":
            value = np.float32(SPECIAL_FLOATS[k] if 0 <= k < 10 else scale)
            blocks[i, :4] = np.frombuffer(value.tobytes(), dtype=np.uint8)
        if name == "F64":  # half of them within the range of float, where random bits hardly ever are
            value = np.float64(SPECIAL_FLOATS[k] if 0 <= k < 10 else scale * 2.0 ** rng.integers(-150, 130))
            if i % 2 == 0 or 0 <= k < 10:
                blocks[i] = np.frombuffer(value.tobytes(), dtype=np.uint8)
    return blocks


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for seed, (name, (block_len, block_bytes, decode)) in enumerate(TYPES.items()):
        n_blocks = {1: 256, 32: 64}.get(block_len, 16)
        blocks = random_blocks(name, n_blocks, block_bytes, np.random.default_rng(1000 + seed))
        with np.errstate(all="ignore"):
            y = np.ascontiguousarray(decode(blocks), dtype=np.float32).reshape(n_blocks, block_len)
        bits = y.view(np.uint32).copy()
        bits[np.isnan(y)] = 0x7FC00000
        hashes = np.array([fnv1a(row.tobytes()) for row in bits], dtype=np.uint64)
        header = np.array([n_blocks, block_bytes, block_len], dtype=np.uint32)
        (out / f"{name}.bin").write_bytes(header.tobytes() + blocks.tobytes() + hashes.tobytes() + bits[0].tobytes())


main()
