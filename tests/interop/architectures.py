#!/usr/bin/env python3
"""Every architecture end to end: what transformers, tsubu and llama.cpp make of the same tiny random models.

    architectures.py TINY [--tsubu PATH] [--llama-perplexity PATH]

TINY is what make_tiny_models.py wrote. Each Hugging Face directory is converted to a GGUF file in F32; llama.cpp's and
tsubu's own perplexity on TINY/text.txt must be the one in TINY/expected.json. Differences come from the order of F32
sums and of rope angles, and from llama.cpp's GELU (an F16 table: 1e-5); one part in ten thousand is far below what a
wrong permutation, rope rule or bias does. Exit code 1 on any difference.
"""
import argparse
import json
import math
import pathlib
import re
import subprocess
import sys

TOLERANCE = 1e-4


def llama_cpp_perplexity(program, model, text, attempts=40):
    """The last running estimate; the program may exit before its log is flushed, hence the attempts."""
    command = [program, "-m", model, "-f", text, "-c", "512", "-b", "512", "-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    for _ in range(attempts):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout + done.stderr)
        if found:
            return float(found.group(1))
    print(f"{model}: llama.cpp gives no estimate (exit {done.returncode}):\n{done.stderr[-600:]}")
    return math.nan


def tsubu_perplexity(program, model, text):
    done = subprocess.run([program, "eval", model, "--text", text, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{model}: tsubu eval: {done.stderr}")
    return json.loads(done.stdout)["perplexity"]["mean"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiny", type=pathlib.Path)
    parser.add_argument("--tsubu", default="tsubu")
    parser.add_argument("--llama-perplexity")
    parser.add_argument("--no-eval", action="store_true", help="convert only; leave tsubu's own perplexity out")
    parser.add_argument("--only", help="names that contain this")
    arguments = parser.parse_args()
    text = str(arguments.tiny / "text.txt")
    n_bad = 0
    for name, expected in json.loads((arguments.tiny / "expected.json").read_text()).items():
        if arguments.only and arguments.only not in name:
            continue
        gguf = str(arguments.tiny / f"{name}.gguf")
        subprocess.run([arguments.tsubu, "convert", arguments.tiny / name, "-o", gguf, "--dtype", "F32", "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        found = {}
        if arguments.llama_perplexity and "llama.cpp" in expected:
            print(f"{name:22} llama.cpp is left out: {expected['llama.cpp']}")
        elif arguments.llama_perplexity:
            found["llama.cpp"] = llama_cpp_perplexity(arguments.llama_perplexity, gguf, text)
        if not arguments.no_eval:
            found["tsubu, directory"] = tsubu_perplexity(arguments.tsubu, str(arguments.tiny / name), text)
            found["tsubu, GGUF"] = tsubu_perplexity(arguments.tsubu, gguf, text)
        for who, value in found.items():
            difference = value / expected["perplexity"] - 1
            n_bad += not abs(difference) <= TOLERANCE
            print(f"{name:22} {who:18} {value:18.4f}  transformers {expected['perplexity']:18.4f}  {difference:+.1e}")
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
