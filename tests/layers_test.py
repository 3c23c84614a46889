#!/usr/bin/env python3
"""Holds the includes to src/layers.txt: a folder includes itself and folders on the lines above its own. Also: intrinsics
only in kernel/, no source above 600 lines, no two headers that define types of one name, one CMake target for each folder that holds sources, linked only to those
above it. layers_test.py SOURCE_DIR"""
import pathlib
import re
import sys
import tempfile

MAX_LINES = 600


def read_layers(path):
    rank = {}
    lines = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    for number, folders in enumerate(lines):
        for folder in folders:
            rank[folder] = number
    return rank


def findings(src):
    rank = read_layers(src / "layers.txt")
    types = {}
    for path in sorted(src.rglob("*")):
        if path.suffix not in (".cc", ".h", ".inc"):
            continue
        folder = path.relative_to(src).parts[0]
        if folder not in rank:
            yield f"{path}: folder {folder}/ is not in layers.txt"
            continue
        text = path.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            m = re.match(r'\s*#\s*include\s*"([^"/]+)/', line)
            if m and m.group(1) != folder and not (m.group(1) in rank and rank[m.group(1)] < rank[folder]):
                yield f"{path}:{number}: {folder}/ may not include {m.group(1)}/"
            if folder != "kernel" and re.match(r"\s*#\s*include\s*<(\w*intrin|arm_neon)\.h>", line):
                yield f"{path}:{number}: intrinsics outside kernel/"
        # Everything lives in one namespace: two types of one name are undefined behavior, and no linker says so.
        for name in re.findall(r"^(?:struct|class) (\w+)(?: final)?(?: :[^{;]*)? ?\{", text, re.M) if path.suffix == ".h" else []:
            if path.parts[-2] != "kernel" and types.setdefault(name, path) != path:
                yield f"{path}: type {name} is also defined in {types[name]}"
        if path.suffix != ".inc" and len(text.splitlines()) > MAX_LINES:
            yield f"{path}: {len(text.splitlines())} lines, at most {MAX_LINES}"


def target_findings(src):
    """The tsubu_layer(FOLDER … LINK tsubu_OTHER …) lines of CMakeLists.txt against the folders and the table."""
    rank = read_layers(src / "layers.txt")
    cmake = src.parent / "CMakeLists.txt"
    declared = {}
    for folder, rest in re.findall(r"^tsubu_layer\(\s*(\w+)([^)]*)\)", cmake.read_text(), re.M):
        if folder in declared:
            yield f"{cmake}: {folder}/ has two targets"
        declared[folder] = re.findall(r"\btsubu_(\w+)", rest)
    folders = {p.name for p in src.iterdir() if p.is_dir() and any(p.rglob("*.cc"))}
    for folder in sorted(folders - declared.keys()):
        yield f"{cmake}: {folder}/ has no target (tsubu_layer({folder} …))"
    for folder in sorted(declared.keys() - folders):
        yield f"{cmake}: target for {folder}/, which holds no sources"
    for folder, links in declared.items():
        for other in links:
            if not (other in rank and folder in rank and rank[other] < rank[folder]):
                yield f"{cmake}: {folder}/ may not link to tsubu_{other}"


def self_test():
    with tempfile.TemporaryDirectory() as name:
        src = pathlib.Path(name)
        (src / "layers.txt").write_text("base\ncodec\ncontainer text\n")
        plants = {
            "base/up.h": '#include "codec/codec.h"\n',
            "text/sibling.h": '#include "container/gguf.h"\n',
            "codec/simd.h": "#include <immintrin.h>\n",
            "codec/long.cc": "\n" * (MAX_LINES + 1),
            "nowhere/x.cc": "int x;\n",
            "text/twice.h": "struct Once {\n};\n",
        }
        fine = {"text/ok.cc": '#include "text/a.h"\n#include "base/error.h"\n', "kernel_free.txt": "x", "base/once.h": "struct Once {\n};\n"}
        for file, text in {**plants, **fine}.items():
            (src / file).parent.mkdir(exist_ok=True)
            (src / file).write_text(text)
        found = list(findings(src))
        for file in plants:
            assert any(file in f for f in found), f"planted violation in {file} was not found: {found}"
        assert len(found) == len(plants), found
    with tempfile.TemporaryDirectory() as name:
        src = pathlib.Path(name) / "src"
        for folder in ("base", "codec", "text"):
            (src / folder).mkdir(parents=True)
            (src / folder / "x.cc").write_text("")
        (src / "layers.txt").write_text("base\ncodec\ncontainer text\n")
        (src.parent / "CMakeLists.txt").write_text("tsubu_layer(base LINK fmt::fmt tsubu_codec)\ntsubu_layer(codec)\n"
                                                   "tsubu_layer(codec LINK\n  tsubu_base)\ntsubu_layer(container)\n")
        found = list(target_findings(src))
        for what in ("codec/ has two", "text/ has no", "for container/", "base/ may not link to tsubu_codec"):
            assert any(what in f for f in found), f"planted '{what}' was not found: {found}"
        assert len(found) == 4, found


if __name__ == "__main__":
    self_test()
    problems = [*findings(pathlib.Path(sys.argv[1])), *target_findings(pathlib.Path(sys.argv[1]))]
    print("\n".join(problems) or "the layer table is kept")
    sys.exit(1 if problems else 0)
