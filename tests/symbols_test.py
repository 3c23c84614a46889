#!/usr/bin/env python3
"""No code compiled for one instruction set may stand in for another's: the linker keeps one copy of each weak symbol, so
a weak symbol of an ISA object must carry that ISA in its name (its namespace, or its Lanes type as a template argument).
symbols_test.py BUILD_DIR ISA…"""
import pathlib
import subprocess
import sys

MARK = {"scalar": ("tsubu::scalar::", "PortableLanes"), "avx2": ("tsubu::avx2::", "Avx2Lanes"),
        "avx512": ("tsubu::avx512::", "Avx512Lanes"), "amx": ("tsubu::amx::",), "neon": ("tsubu::neon::", "NeonLanes")}

problems, checked = [], 0
build, isas = pathlib.Path(sys.argv[1]), sys.argv[2:]
for isa in isas:
    objects = sorted((build / f"CMakeFiles/tsubu_kernel_{isa}.dir").rglob("*.o"))
    if not objects:
        problems.append(f"no objects of {isa} in {build}")
    for path in objects:
        names = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        for line in names.splitlines():
            parts = line.split(None, 2)
            if len(parts) < 3 or parts[1] not in "WwVvu":
                continue
            checked += 1
            # The baseline's copies run everywhere; what must not happen is that another ISA's replace them.
            if isa != "scalar" and not any(mark in parts[2] for mark in MARK[isa]):
                problems.append(f"{path}: {parts[2]}")
print("\n".join(problems) or f"{checked} weak symbols, all bound to their ISA")
sys.exit(1 if problems or not isas else 0)
