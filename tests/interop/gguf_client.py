#!/usr/bin/env python3
"""The `gguf` package reads every type that tsubu writes and decodes it to the floats that tsubu decodes, bit for bit.
gguf_client.py TSUBU MODEL_DIR WORK_DIR"""
import json
import pathlib
import subprocess
import sys

import gguf
import numpy as np

tsubu, model, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
work.mkdir(parents=True, exist_ok=True)
types = [t["name"] for t in json.loads(subprocess.check_output([tsubu, "types", "--json"]))["types"] if t["can_encode"]]
failed = left_out = 0
for name in types:
    packed, plain = work / f"{name}.gguf", work / f"{name}-f32.gguf"
    subprocess.run([tsubu, "quantize", model, "-o", packed, "--to", name, "--pure", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([tsubu, "convert", packed, "-o", plain, "--dtype", "F32", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    ours = {t.name: t for t in gguf.GGUFReader(plain).tensors}
    try:
        bad = [t.name for t in gguf.GGUFReader(packed).tensors
               if gguf.dequantize(t.data, t.tensor_type).astype(np.float32).tobytes() != np.asarray(ours[t.name].data).tobytes()]
    except (NotImplementedError, ValueError) as e:  # the package knows the type and its size, not its values; or not the type
        if isinstance(e, ValueError) and "GGMLQuantizationType" not in str(e):
            raise
        print(f"{name}: left out: {e}")
        left_out += 1
        plain.unlink()
        continue
    print(f"{name}: {'equal' if not bad else 'DIFFERS in ' + ', '.join(bad[:3])}")
    failed += bool(bad)
    plain.unlink()
print(f"{len(types) - failed - left_out} passed, {failed} failed, {left_out} left out")
sys.exit(1 if failed or len(types) - left_out < 15 else 0)
