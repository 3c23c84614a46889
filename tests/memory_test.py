"""The memory that `tune` predicts before it starts bounds what the process takes at its peak, and is at most 15 % above it; 3 % are left
for what differs between machines (pages of the program and its libraries that are touched, how the kernel counts them).

usage: memory_test.py TSUBU SOURCE. Peaks are the kernel's (wait4's ru_maxrss of the child), on one thread, on the bundled model and,
where TSUBU_DATA names a folder with models/mini21m, on that one. Exit code 77, skipped, under a sanitizer: its memory is its own.
"""

import json
import os
import subprocess
import sys
import tempfile

SLACK, ROOM = 1.15, 1.03

TALKS = [("Who is it?", "It is Tom, the big dog."), ("Where did the cat go?", "The cat went up the hill and sat under a tall tree."),
         ("What did she say?", "She said that the sun was warm. She was happy to play with her friend until it was dark outside.")]


def run(arguments):
    """The child's JSON and its peak in bytes."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(arguments, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"exit code {child.returncode}: {' '.join(arguments)}")
        out.seek(0)
        return json.load(out), usage.ru_maxrss * 1024


def main():
    tsubu, source = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    with open(tsubu, "rb") as program:
        whole = program.read()
    if b"__asan_init" in whole or b"__tsan_init" in whole:
        sys.exit(77)
    models = [os.path.join(source, "models", "grain-7m")]
    text = os.path.join(models[0], "calib.txt")
    more = os.path.join(os.environ.get("TSUBU_DATA", ""), "models", "mini21m")
    if os.environ.get("TSUBU_DATA") and os.path.isdir(more):
        models.append(more)
    failures = 0
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            talks = os.path.join(folder, "talks.jsonl")
            with open(talks, "w") as file:
                for i in range(300):
                    question, answer = TALKS[i % 3]
                    json.dump({"prompt": question, "completion": (" " + answer) * (1 + i % 5)}, file)
                    file.write("\n")
            short = ["--tokens", "1024", "--step-tokens", "512", "--judged-tokens", "512", "--evaluations", "1", "--threads", "1", "--json",
                     "--quiet"]
            cases = {
                "qat": ["--qat", "Q2_K", "--text", text, "--no-manifest", "-o", "qat.gguf"],
                "qat, bfloat16": ["--qat", "Q2_K", "--products", "bf16", "--text", text, "--no-manifest", "-o", "bf16.gguf"],
                "lora, text": ["--lora", "r=16", "--text", text, "-o", "text.gguf"],
                "lora, chat": ["--lora", "r=16", "--chat", talks, "-o", "chat"],
            }
            for name, options in cases.items():
                options = options[:-1] + [os.path.join(folder, options[-1])]
                result, peak = run([tsubu, "tune", model, *options, *short])
                predicted = result["predicted"]["memory_bytes"] if "predicted" in result else result["predicted_bytes"]
                said = result["training"]["peak_bytes"] if "training" in result else result["peak_bytes"]
                is_right = peak / ROOM <= predicted <= SLACK * peak and abs(said - peak) <= 0.01 * peak  # counted page by page, by thread
                failures += not is_right
                print(f"{'ok ' if is_right else 'BAD'} {os.path.basename(model)}, {name}: predicted {predicted / 1e6:.1f} MB, "
                      f"peak {peak / 1e6:.1f} MB ({predicted / peak - 1:+.1%}); the program's own {said / 1e6:.1f} MB")
    sys.exit(1 if failures else 0)


main()
