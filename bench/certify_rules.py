#!/usr/bin/env python3
"""What certify's rules about weights see in sound GGUF files and in files spoiled in one random place of every matrix.
  certify_rules.py TSUBU BASE.gguf TEXT OUT.jsonl KIND… -- FILE.gguf…
KIND: clean, zeroed, double, half, x1.5, x0.75, sign (of one block's scale), rows (two exchanged). One line of OUT.jsonl for each tensor
of each file, as certify has it, with what was done and where (row, first column, columns)."""
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
from cli_test import gguf_layout  # noqa: E402

# By ggml's number of the type: bytes and weights of a block, where its halves stand that a weight is linear in.
BLOCKS = {2: (18, 32, [0]), 3: (20, 32, [0, 2]), 6: (22, 32, [0]), 7: (24, 32, [0, 2]), 8: (34, 32, [0]), 10: (84, 256, [80, 82]), 11: (110, 256, [108]),
          12: (144, 256, [0, 2]), 13: (176, 256, [0, 2]), 14: (210, 256, [208]), 16: (66, 256, [0]), 17: (74, 256, [0]), 18: (98, 256, [0]), 19: (50, 256, [0]),
          20: (18, 32, [0]), 21: (110, 256, [0]), 22: (82, 256, [0]), 23: (136, 256, [0]), 29: (56, 256, []), 34: (54, 256, [52]), 35: (66, 256, [64]),
          39: (17, 32, []), 40: (36, 64, []), 41: (18, 128, [0]), 42: (18, 64, [0])}
IQ1_M, MXFP4, NVFP4 = 29, 39, 40
FACTORS = {"zeroed": 0, "double": 2, "half": 0.5, "x1.5": 1.5, "x0.75": 0.75, "sign": -1}


def change_scale(d, kind_id, at, factor, rng):
    """One scale of the block at `at`: first column within the block and columns, or None where the format cannot say it."""
    size, length, halves = BLOCKS[kind_id]
    for offset in halves:
        struct.pack_into("<e", d, at + offset, struct.unpack_from("<e", d, at + offset)[0] * factor)
    if halves:
        return 0, length
    power = {0: None, 2: 1, 0.5: -1}.get(factor, 0)  # of two
    if kind_id == IQ1_M:  # a half in the highest four bits of four words
        if factor not in (0, -1):
            return None
        for i in range(4):
            word = struct.unpack_from("<H", d, at + 48 + 2 * i)[0]
            struct.pack_into("<H", d, at + 48 + 2 * i, word & 0x0FFF if factor == 0 else word ^ (0x8000 if i == 3 else 0))
        return 0, length
    if power == 0:
        return None
    part = rng.randrange(4) if kind_id == NVFP4 else 0
    step = 8 if kind_id == NVFP4 else 1
    if power and not 0 < d[at + part] + power * step < (0x7F if kind_id == NVFP4 else 0xFF):
        return None
    d[at + part] = 0 if power is None else d[at + part] + power * step
    return (16 * part, 16) if kind_id == NVFP4 else (0, length)


def spoil(d, kind, rng):
    """Changes one place of each matrix; where: name → (row, first column, columns)."""
    tensors, _, start = gguf_layout(d)
    places = {}
    for name, (rows, cols, at) in tensors.items():
        kind_id = struct.unpack_from("<I", d, at - 4)[0]
        if rows < 8 or kind_id not in BLOCKS:
            continue
        size, length, _ = BLOCKS[kind_id]
        begin, row_bytes = start + struct.unpack_from("<Q", d, at)[0], cols // length * size
        row = rng.randrange(rows)
        if kind == "rows":
            other = rng.randrange(rows - 1)
            other += other >= row
            a, b = begin + row * row_bytes, begin + other * row_bytes
            d[a:a + row_bytes], d[b:b + row_bytes] = d[b:b + row_bytes], d[a:a + row_bytes]
            places[name] = (min(row, other), 0, cols)
            continue
        block = rng.randrange(cols // length)
        changed = change_scale(d, kind_id, begin + row * row_bytes + block * size, FACTORS[kind], rng)
        if changed:
            places[name] = (row, block * length + changed[0], changed[1])
    return places


def main():
    tsubu, base, text, out = sys.argv[1:5]
    cut = sys.argv.index("--")
    kinds, files = sys.argv[5:cut], sys.argv[cut + 1:]
    with tempfile.TemporaryDirectory() as work, open(out, "a") as log:
        for file in files:
            jobs = []
            for kind in kinds:
                path, places = file, {}
                if kind != "clean":
                    d = bytearray(pathlib.Path(file).read_bytes())
                    places = spoil(d, kind, random.Random(f"{pathlib.Path(file).name} {kind}"))
                    if not places:
                        continue
                    path = f"{work}/{kind}.gguf"
                    pathlib.Path(path).write_bytes(d)
                jobs.append((kind, path, places))
            done = subprocess.run([tsubu, "certify", base, *[path for _, path, _ in jobs], "--text", text, "--ctx", "64", "--chunks", "1", "--no-speed",
                                   "--quiet", "-o", f"{work}/run.json"], capture_output=True, text=True)
            if done.returncode not in (0, 1):
                sys.exit(f"{file}: {done.stderr}")
            for (kind, _, places), c in zip(jobs, json.loads(pathlib.Path(f"{work}/run.json").read_text())["candidates"]):
                for t in c["weights"]["tensors"]:
                    if kind == "clean" or t["name"] in places:
                        log.write(json.dumps({"file": pathlib.Path(file).name, "kind": kind, "place": places.get(t["name"]), **t}) + "\n")
            log.flush()


main()
