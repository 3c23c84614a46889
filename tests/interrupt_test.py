#!/usr/bin/env python3
"""Ctrl-C: exit 130; during quantize no file is left behind, and only there it says so.
interrupt_test.py TSUBU SOURCE_DIR"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

tsubu, source = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
with tempfile.TemporaryDirectory() as name:
    out = pathlib.Path(name) / "x.gguf"
    # One thread, the slow instruction set and a slow type leave time for the signal.
    process = subprocess.Popen([tsubu, "quantize", source / "models/grain-7m", "-o", out, "--to", "Q2_K", "--threads", "1"],
                               env=dict(os.environ, TSUBU_ISA="scalar"), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.time() + 60
    part = pathlib.Path(str(out) + ".tsubu-part")
    while not part.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, (process.returncode, err)
    assert b"interrupted; no output was left behind" in err, err
    assert not out.exists() and not part.exists(), os.listdir(name)

process = subprocess.Popen([tsubu, "run", source / "models/grain-7m", "-p", "Once", "-n", "1000000", "--threads", "1"],
                           stderr=subprocess.PIPE, stdout=subprocess.PIPE)
process.stdout.read(1)  # the text has begun
process.send_signal(signal.SIGINT)
_, err = process.communicate(timeout=60)
assert process.returncode == 130, (process.returncode, err)
assert b"interrupted" in err and b"output" not in err, err
print("2 passed, 0 failed")
