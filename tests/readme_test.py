#!/usr/bin/env python3
"""Runs every command of the README's ```sh blocks, in order, in a scratch directory that sees the repository's models.
Lines that start a script of the repository (./scripts/…) are only checked to exist.   readme_test.py TSUBU SOURCE_DIR"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

tsubu, source = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
passed, problems = 0, []
for readme in sorted(source.glob("README*.md")):
    blocks = re.findall(r"^```sh\n(.*?)^```", readme.read_text(), re.M | re.S)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.split("#")[0].strip()]
    if readme.name == "README.md" and not any(line.startswith("tsubu ") for line in commands):
        problems.append(f"{readme.name}: no tsubu command in its ```sh blocks")
    with tempfile.TemporaryDirectory() as work:
        os.symlink(source / "models", pathlib.Path(work) / "models")
        env = dict(os.environ, PATH=f"{tsubu.parent}:{os.environ['PATH']}")
        for line in commands:
            script = re.match(r"(?:\./)?(scripts/\w+)", line)
            if script:
                path = source / script.group(1)
                ok, said = os.access(path, os.X_OK), f"{path} is no executable file"
            else:
                done = subprocess.run(["bash", "-c", line], cwd=work, env=env, capture_output=True, text=True, errors="replace",
                                      timeout=300)
                ok, said = done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
            passed += ok
            if not ok:
                problems.append(f"{readme.name}: {line}\n{said}")
print("\n".join(problems))
print(f"{passed} passed, {len(problems)} failed")
sys.exit(1 if problems or not passed else 0)
