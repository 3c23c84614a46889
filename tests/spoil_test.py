#!/usr/bin/env python3
"""certify on candidates spoiled in one place: each fails, and the place is named; sound ones pass, also those of one and two
bits that were rounded with calibration text.   spoil_test.py TSUBU SOURCE_DIR"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cli_test import gguf_layout, patched  # noqa: E402

tsubu, source = sys.argv[1], pathlib.Path(sys.argv[2])
model = source / "models" / "grain-7m"
HEAD, PLACE = 64, "blk.2.ffn_up.weight"  # rows of a head; the matrix that is damaged

# Bytes and weights of a block, where its scale (a half) stands; sub-blocks' scales of Q4_K behind it.
TYPES = {"Q4_0": (18, 32, 0), "Q8_0": (34, 32, 0), "Q4_K": (144, 256, 0), "IQ4_XS": (136, 256, 0), "TQ2_0": (66, 256, 64),
         "Q1_0": (18, 128, 0)}


def run(*arguments):
    return subprocess.run([tsubu, *map(str, arguments)], capture_output=True, text=True)


def made(*arguments):
    done = run(*arguments, "--quiet")
    assert done.returncode == 0, (arguments, done.stderr)


def spoilers(kind):
    size, weights, scale = TYPES[kind]

    def place(d, name, row=0, block=0):
        tensors, _, start = gguf_layout(d)
        _, columns, offset_at = tensors[name]
        return start + struct.unpack_from("<Q", d, offset_at)[0] + (row * (columns // weights) + block) * size

    def row_bytes(d, name):
        return gguf_layout(d)[0][name][1] // weights * size

    def zeroed(d):
        at = place(d, PLACE, 5) + scale
        d[at:at + 2] = b"\0\0"

    def swapped(d):
        tensors = gguf_layout(d)[0]
        a, b = tensors["blk.1.ffn_gate.weight"][2], tensors["blk.1.ffn_up.weight"][2]
        d[a:a + 8], d[b:b + 8] = d[b:b + 8], d[a:a + 8]

    def rope(d):
        struct.pack_into("<f", d, gguf_layout(d)[1]["llama.rope.freq_base"], 500000.0)

    def signs(d):
        d[place(d, PLACE, 9) + scale + 1] ^= 0x80

    def wrong_row(d):
        n, a, b = row_bytes(d, PLACE), place(d, PLACE, 3), place(d, PLACE, 200)
        d[a:a + n] = d[b:b + n]

    def heads(d):
        name = "blk.4.attn_q.weight"
        n, a, b = HEAD * row_bytes(d, name), place(d, name, 0), place(d, name, HEAD)
        d[a:a + n], d[b:b + n] = d[b:b + n], d[a:a + n]

    def doubled(d):
        at = place(d, PLACE, 7) + scale
        d[at:at + 2] = struct.pack("<e", 2 * struct.unpack_from("<e", d, at)[0])

    def sub_zeroed(d):  # the first of the eight scales of six bits
        d[place(d, PLACE, 5) + 4] &= 0xC0

    found = {"zeroed": (zeroed, "weights", PLACE, "row 5"), "swapped": (swapped, "weights", "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"),
             "rope": (rope, "configuration", "", "rope base"), "signs": (signs, "weights", PLACE, "row 9"),
             "wrong_row": (wrong_row, "weights", PLACE, "row 200"), "heads": (heads, "weights", "blk.4.attn_q.weight", "rows are not the base's"),
             "doubled": (doubled, "weights", PLACE, "row 7")}
    if kind == "Q4_K":
        found["sub_zeroed"] = (sub_zeroed, "weights", PLACE, "row 5")
    return found


def shorter_vocabulary(d):
    """The last 100 tokens are gone from the list, as a conversion with another tokenizer makes it."""
    key = struct.pack("<Q", 21) + b"tokenizer.ggml.tokens"
    at = d.index(key) + len(key) + 4
    _, n = struct.unpack_from("<IQ", d, at)
    tensors, _, start = gguf_layout(d)
    struct.pack_into("<Q", d, at + 4, n - 100)
    end = at + 12
    for i in range(n):
        if i == n - 100:
            cut = end
        end += 8 + struct.unpack_from("<Q", d, end)[0]
    head = bytes(d[:cut]) + bytes(d[end:])
    # What lies behind is found by the alignment of its start: filled up again behind the last description.
    last = max(offset_at for _, _, offset_at in tensors.values()) + 8 - (end - cut)
    data = bytes(d[start:])
    return bytearray(head[:last] + b"\0" * (-last % 32) + data)


def metadata(d, key, change):
    """Of a text or a list of numbers: change(where its bytes begin, how many) → nothing, in place."""
    at = d.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key)
    kind = struct.unpack_from("<I", d, at)[0]
    if kind == 8:
        change(at + 12, struct.unpack_from("<Q", d, at + 4)[0])
    else:
        element, n = struct.unpack_from("<IQ", d, at + 4)
        assert kind == 9 and element == 6, (kind, element)
        change(at + 16, 4 * n)


def other_scores(d):
    """The pieces' scores the other way round: the same tokens, other cuts of a text into them."""
    def change(at, n):
        d[at:at + n] = b"".join(d[i:i + 4] for i in range(at + n - 4, at - 1, -4))

    metadata(d, "tokenizer.ggml.scores", change)


def with_chat_template(directory, template):
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))


def spoiled_layout(directory):
    """One group's scale of a matrix of 4-bit integers, times four."""
    path = directory / "model.safetensors"
    d = bytearray(path.read_bytes())
    n = struct.unpack_from("<Q", d)[0]
    entry = json.loads(d[8:8 + n])["model.layers.2.mlp.up_proj.scales"]
    assert entry["dtype"] == "F16", entry
    at = 8 + n + entry["data_offsets"][0] + 2 * 9  # (groups, outputs): the first group of output 9
    struct.pack_into("<e", d, at, 4 * struct.unpack_from("<e", d, at)[0])
    path.write_bytes(d)


failures = []


def expect(condition, what):
    if not condition:
        failures.append(what)
    print(("ok    " if condition else "FAIL  ") + what)


def certify(work, candidates):
    done = run("certify", "base.gguf", *candidates, "--text", model / "heldout.txt", "--ctx", 64, "--chunks", 1, "--no-speed", "--quiet", "-o",
               "run.json")
    assert done.returncode in (0, 1), done.stderr
    result = json.loads((work / "run.json").read_text())
    return done.returncode, {c["path"]: c["verdict"] for c in result["candidates"]}, result["gates"]


with tempfile.TemporaryDirectory() as name:
    work = pathlib.Path(name)
    os.chdir(work)
    made("convert", model, "-o", "base.gguf", "--dtype", "F16")
    for kind in TYPES:
        few = kind in ("Q1_0", "TQ2_0")
        made("quantize", "base.gguf", "-o", "sound.gguf", "--to", kind, *(["--text", model / "calib.txt", "--ctx", 256, "--chunks", 8] if few else []))
        wanted = spoilers(kind)
        if few:  # what a sound file of so few bits may also look like is not held against it
            wanted = {k: wanted[k] for k in ("zeroed", "swapped", "rope", "heads")}
        for label, (change, *_) in wanted.items():
            patched("sound.gguf", f"{label}.gguf", change)
        code, verdicts, gates = certify(work, ["sound.gguf", *(f"{label}.gguf" for label in wanted)])
        expect(code == 1, f"{kind}: exit code {code}")
        wrong = [f'{r.get("about", "")}: {r["text"]}' for g in gates if g["candidate"] == "sound.gguf" for r in g["reasons"]]
        expect(verdicts["sound.gguf"] == "pass", f"{kind}: sound: {verdicts['sound.gguf']} {wrong}")
        for label, (_, gate, tensor, words) in wanted.items():
            broken = [g for g in gates if g["candidate"] == f"{label}.gguf" and not g["ok"]]
            reasons = [(r.get("about", ""), r["text"]) for g in broken if g["name"] == gate for r in g["reasons"]]
            expect([g["name"] for g in broken] == [gate] and any(about == tensor and words in text for about, text in reasons),
                   f"{kind}: {label}: {[g['name'] for g in broken]} {reasons}")
    for kind in ("Q2_K", "IQ2_XXS", "IQ1_S", "Q3_K_S"):
        made("quantize", "base.gguf", "-o", "sound.gguf", "--to", kind, "--text", model / "calib.txt", "--ctx", 256, "--chunks", 8)
        code, _, gates = certify(work, ["sound.gguf"])
        expect(code == 0, f"{kind} with calibration text: sound: {[(r.get('about'), r['text']) for g in gates for r in g['reasons']]}")
    patched("base.gguf", "short.gguf", shorter_vocabulary)
    done = run("certify", "base.gguf", "short.gguf", "--text", model / "heldout.txt", "--ctx", 64, "--chunks", 1, "--no-speed", "--quiet")
    expect(done.returncode == 3 and "short.gguf" in done.stderr and "tokens" in done.stderr, f"vocabulary cut short: {done.returncode} {done.stderr.strip()}")
    # Metadata that changes what a user gets, though every weight is right.
    patched("base.gguf", "scores.gguf", other_scores)
    for name in ("plain", "other"):
        shutil.copytree(model, work / f"chat-{name}")
        with_chat_template(work / f"chat-{name}", "{% for m in messages %}" + name + " {{ m['content'] }}{% endfor %}")
    code, _, gates = certify(work, ["scores.gguf", "chat-plain"])
    reasons = {g["candidate"]: [r["text"] for r in g["reasons"]] for g in gates if g["name"] == "configuration"}
    expect(code == 1 and any("becomes other tokens" in t and "heldout.txt" in t for t in reasons["scores.gguf"]), f"other scores of the tokenizer: {reasons}")
    expect(reasons["chat-plain"] == ["chat template: the base has none, here is one"], f"a chat template: {reasons}")
    shutil.move("base.gguf", "f16.gguf")
    shutil.copytree("chat-other", "base.gguf")  # now the base
    code, _, gates = certify(work, ["chat-plain", "chat-other"])
    reasons = {g["candidate"]: [r["text"] for r in g["reasons"]] for g in gates if g["name"] == "configuration"}
    expect(code == 1 and reasons == {"chat-plain": ["chat template: another one than the base's"], "chat-other": []}, f"another chat template: {reasons}")
    shutil.rmtree("base.gguf")
    shutil.move("f16.gguf", "base.gguf")
    # Layouts of Hugging Face: held against the rounding that they are, and transformed ones not at all.
    for layout in ("gptq", "compressed-tensors", "bitsandbytes", "awq", "fp8"):
        made("quantize", "base.gguf", "--format", layout, "--base", model, "-o", f"hf-{layout}")
    made("quantize", "base.gguf", "--format", "gptq", "--base", model, "--text", model / "calib.txt", "--ctx", 256, "--chunks", 8, "-o", "hf-calibrated")
    made("quantize", "base.gguf", "--format", "awq", "--base", model, "--text", model / "calib.txt", "--ctx", 256, "--chunks", 8, "--transform", "awq", "-o", "hf-folded")
    shutil.copytree("hf-folded", "hf-foreign")  # as another tool leaves it
    os.remove("hf-foreign/tsubu_manifest.json")
    shutil.copytree("hf-gptq", "hf-spoiled")
    spoiled_layout(work / "hf-spoiled")
    sound = ["hf-gptq", "hf-compressed-tensors", "hf-bitsandbytes", "hf-awq", "hf-fp8", "hf-calibrated", "hf-folded", "hf-foreign"]
    code, verdicts, gates = certify(work, [*sound, "hf-spoiled"])
    wrong = [(g["candidate"], r["text"]) for g in gates if g["candidate"] in sound for r in g["reasons"]]
    expect(all(verdicts[c] == "pass" for c in sound), f"sound layouts: {wrong}")
    found = [(r.get("about"), r["text"]) for g in gates if g["candidate"] == "hf-spoiled" and g["name"] == "weights" for r in g["reasons"]]
    expect(code == 1 and len(found) == 1 and found[0][0] == PLACE and "row 9" in found[0][1], f"a layout's scale, times four: {found}")
    run_json = {c["path"]: c for c in json.loads((work / "run.json").read_text())["candidates"]}
    expect(all("weights were transformed" in json.dumps(run_json["hf-folded"]["weights"]) and not run_json[c]["weights"]["comparable"] for c in ("hf-folded", "hf-foreign")),
           "folded scales are said and not judged")
    expect([t["type"] for t in run_json["hf-gptq"]["types"] if t["type"].startswith("int4")] != [], f"a layout's type: {run_json['hf-gptq']['types']}")
if failures:
    sys.exit(f"{len(failures)} of the expectations failed")
