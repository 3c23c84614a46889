#!/usr/bin/env python3
"""Writes src/codec/iq_grids.inc: the point sets of the IQ1/IQ2/IQ3 formats as bitmaps.

The points are facts of the format, taken here from the `gguf` package (pip install gguf). Each set is ordered by its
code, the number whose i-th digit (least significant first, base 3 or 8) is the level of coordinate i. So a set is fully
described by one bit per possible code, and the index of a point is the number of set bits below its own.
"""

import pathlib

import gguf.quants
import numpy as np

SETS = ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src" / "codec" / "iq_grids.inc"


def codes_of(name: str) -> tuple[int, np.ndarray]:
    """The number of possible codes and the code of every point, in index order."""
    codec = getattr(gguf.quants, name)
    codec.init_grid()
    points = codec.grid.reshape(codec.grid_shape)
    levels = np.array(codec.grid_map, dtype=np.float32)
    digits = np.argmax(points[:, :, None] == levels, axis=2)
    codes = (digits * len(levels) ** np.arange(points.shape[1])).sum(axis=1)
    if not (np.diff(codes) > 0).all():
        raise SystemExit(f"{name}: points are not in ascending order of their codes; a bitmap cannot hold them")
    return len(levels) ** points.shape[1], codes


def fnv1a(data: bytes) -> int:
    hash_ = 0xCBF29CE484222325
    for byte in data:
        hash_ = (hash_ ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return hash_


def main() -> None:
    lines = [
        "// Made by tests/make_iq_grids.py; see iq_grids.h. Bit c % 64 of word c / 64: is the point of code c in?",
    ]
    for name in SETS:
        n_codes, codes = codes_of(name)
        bitmap = np.zeros((n_codes + 63) // 64 * 64, dtype=np.uint8)
        bitmap[codes] = 1
        words = np.packbits(bitmap, bitorder="little").view("<u8")
        identifier = "k" + "".join(part.capitalize() for part in name.split("_")) + "Members"
        lines.append(f"constexpr uint64_t {identifier}[{len(words)}] = {{")
        for i in range(0, len(words), 5):
            lines.append("    " + " ".join(f"0x{int(word):016x}," for word in words[i : i + 5]))
        lines.append("};")
        points = getattr(gguf.quants, name).grid.astype(np.int8)
        # iq_grids_test.cc pins these.
        print(f"{name}: FNV-1a of the points as signed bytes 0x{fnv1a(points.tobytes()):016x}")
    OUTPUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
