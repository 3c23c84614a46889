#!/usr/bin/env python3
"""Runs the command-line tests in tests/cli/*.txt.   cli_test.py TSUBU SOURCE_DIR [NAME…]

A test file is a list of steps; blank lines and lines with # are skipped:
  $ COMMAND          run by bash in a scratch directory; `tsubu` is the program, $MODEL the bundled model's directory
  exit N             its exit code (0 when not said)
  stdout REGEX       found in its standard output (several lines: each must be found)
  stderr REGEX       the same for standard error
  no-file NAME       after the command there is no such file
  file NAME          after the command there is
  json KEY[.KEY…]    standard output is one JSON document that has this path (list indices are numbers)
Fixtures: `fixture NAME` makes damaged copies of the bundled model; see class Fixtures."""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile


def patched(source, target, change):
    data = bytearray(pathlib.Path(source).read_bytes())
    pathlib.Path(target).write_bytes(change(data) or data)


def copy_model(model, target):
    shutil.copytree(model, target)
    return target


def set_json(path, **values):
    config = json.loads(path.read_text())
    config.update(values)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def gguf_layout(data):
    """Tensors: name → (rows, columns, place of the offset); numbers of the metadata: key → place; start of the data."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    n_tensors, n_values = struct.unpack_from("<QQ", data, 8)
    at, values, alignment = 24, {}, 32

    def string(at):
        n = struct.unpack_from("<Q", data, at)[0]
        return data[at + 8: at + 8 + n].decode(), at + 8 + n

    def skip(kind, at):
        if kind == 8:
            return string(at)[1]
        if kind == 9:
            element, n = struct.unpack_from("<IQ", data, at)
            at += 12
            for _ in range(n if element in (8, 9) else 0):
                at = skip(element, at)
            return at if element in (8, 9) else at + n * sizes[element]
        return at + sizes[kind]

    for _ in range(n_values):
        key, at = string(at)
        kind = struct.unpack_from("<I", data, at)[0]
        values[key] = at + 4
        at = skip(kind, at + 4)
    tensors = {}
    for _ in range(n_tensors):
        name, at = string(at)
        n = struct.unpack_from("<I", data, at)[0]
        shape = struct.unpack_from(f"<{n}Q", data, at + 4)
        at += 4 + 8 * n + 4
        tensors[name] = (shape[1] if n > 1 else 1, shape[0], at)
        at += 8
    return tensors, values, at + -at % alignment


class Fixtures:
    def __init__(self, tsubu, model, work):
        self.tsubu, self.model, self.work = tsubu, model, work

    def base(self):
        subprocess.run([self.tsubu, "convert", self.model, "-o", self.work / "base.gguf", "--dtype", "F16", "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)

    def updated(self):
        """base.gguf with one weight of the last norm changed, as another version of the model."""
        def change(d):
            tensors, _, start = gguf_layout(d)
            at = start + struct.unpack_from("<Q", d, tensors["output_norm.weight"][2])[0]
            struct.pack_into("<f", d, at, struct.unpack_from("<f", d, at)[0] * 1.01)
        patched(self.work / "base.gguf", self.work / "updated.gguf", change)

    def truncated(self):
        patched(self.work / "base.gguf", self.work / "truncated.gguf", lambda d: d[: len(d) // 2])

    def stub(self):
        patched(self.work / "base.gguf", self.work / "stub.gguf", lambda d: d[:100])

    def not_gguf(self):
        (self.work / "not.gguf").write_bytes(b"hello, I am no GGUF file at all" * 10)

    def absurd_count(self):
        patched(self.work / "base.gguf", self.work / "absurd.gguf", lambda d: d[:8] + struct.pack("<Q", 1 << 62) + d[16:])

    def other_architecture(self):
        patched(self.work / "base.gguf", self.work / "other.gguf", lambda d: d.replace(b"\x05\0\0\0\0\0\0\0llama\x0c", b"\x05\0\0\0\0\0\0\0zebra\x0c", 1)
                if d.count(b"\x05\0\0\0\0\0\0\0llama\x0c") else d.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0zebra", 1))

    def other_vocabulary(self):
        def token(text):
            data = text.encode()
            return struct.pack("<Q", len(data)) + data

        patched(self.work / "base.gguf", self.work / "other-vocabulary.gguf", lambda d: d.replace(token("▁little"), token("▁lottle"), 1))

    def nan(self):
        target = copy_model(self.model, self.work / "nan")
        # The last two bytes of the file are a BF16 weight: make it a NaN.
        patched(target / "model.safetensors", target / "model.safetensors", lambda d: d[:-2] + b"\xc0\x7f")

    def no_tokenizer(self):
        os.remove(copy_model(self.model, self.work / "no-tokenizer") / "tokenizer.model")

    def small_vocabulary(self):
        set_json(copy_model(self.model, self.work / "small-vocabulary") / "config.json", vocab_size=4000)

    def unknown_config(self):
        set_json(copy_model(self.model, self.work / "unknown") / "config.json", architectures=["ZebraForCausalLM"])

    def missing_shard(self):
        target = copy_model(self.model, self.work / "missing-shard")
        os.remove(target / "model.safetensors")
        (target / "model.safetensors.index.json").write_text(json.dumps(
            {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}))

    def quantized_config(self):
        set_json(copy_model(self.model, self.work / "gptq") / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})

    def pickle(self):
        target = copy_model(self.model, self.work / "pickle")
        os.remove(target / "model.safetensors")
        (target / "pytorch_model.bin").write_bytes(b"PK\x03\x04")

    def bad_statistics(self):
        """Importance matrices for blk.0.attn_q.weight that are wrong, each in one way."""
        name, columns = b"blk.0.attn_q.weight", 256

        def string(data):
            return struct.pack("<Q", len(data)) + data

        def legacy(file, values):
            (self.work / file).write_bytes(struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 1, len(values)) +
                                           struct.pack(f"<{len(values)}f", *values))

        def gguf(file, sums, counts):
            """sums: rows of `columns` values."""
            data = struct.pack(f"<{columns * sums}f", *[1.0] * (columns * sums))
            tensors = string(name + b".in_sum2") + struct.pack("<IQQIQ", 2, columns, sums, 0, 0)
            tensors += string(name + b".counts") + struct.pack("<IQQIQ", 2, 1, counts, 0, len(data))
            head = b"GGUF" + struct.pack("<IQQ", 3, 2, 1) + string(b"general.type") + struct.pack("<I", 8) + string(b"imatrix")
            head += tensors
            tail = struct.pack(f"<{counts}f", *[1.0] * counts)
            (self.work / file).write_bytes(head + bytes(-len(head) % 32) + data + tail + bytes(-len(tail) % 32))

        legacy("good.dat", [1.0] * columns)
        legacy("nan.dat", [float("nan")] + [1.0] * (columns - 1))
        legacy("infinite.dat", [float("inf")] + [1.0] * (columns - 1))
        legacy("negative.dat", [1.0] * (columns - 1) + [-1.0])
        legacy("narrow.dat", [1.0] * (columns // 2))
        (self.work / "cut.dat").write_bytes((self.work / "good.dat").read_bytes()[:-1])
        gguf("good-stats.gguf", 1, 1)
        gguf("three-stats.gguf", 3, 3)
        gguf("many-stats.gguf", 4096, 4096)
        gguf("uncounted-stats.gguf", 2, 1)

    def layouts(self):
        """The bundled model in three layouts, and copies of them that are wrong, each in one way."""
        for name, method, scheme in (("gptq", "gptq", "W4A16"), ("asym", "gptq", "W4A16_ASYM"), ("w4a16", "compressed-tensors", "W4A16"),
                                     ("awq", "awq", "W4A16_ASYM")):
            subprocess.run([self.tsubu, "quantize", self.model, "--format", method, "--to", scheme, "--method", "nearest", "-o",
                            self.work / name, "--quiet"], check=True, stdout=subprocess.DEVNULL)

        def variant(source, target, **values):
            """values: changed keys of quantization_config; None takes a key away."""
            folder = copy_model(self.work / source, self.work / target)
            path = folder / "config.json"
            config = json.loads(path.read_text())["quantization_config"]
            config.update(values)
            set_json(path, quantization_config={k: v for k, v in config.items() if v is not None})
            if (folder / "quantize_config.json").exists():
                (folder / "quantize_config.json").unlink()
            return folder

        variant("gptq", "wrong-method", quant_method="awq", version="gemm")
        variant("asym", "wrong-version", checkpoint_format="gptq")
        variant("gptq", "wrong-bits", bits=8)
        variant("w4a16", "unknown-key")
        path = self.work / "unknown-key" / "config.json"
        config = json.loads(path.read_text())
        config["quantization_config"]["config_groups"]["group_0"]["weights"]["zero_bits"] = 4
        path.write_text(json.dumps(config))
        set_json(copy_model(self.work / "awq", self.work / "no-config") / "config.json", quantization_config=None)

        def scale_of(folder, name, value):
            """Sets the first number of a 16-bit tensor."""
            path = folder / "model.safetensors"
            data = bytearray(path.read_bytes())
            (size,) = struct.unpack_from("<Q", data)
            begin = 8 + size + json.loads(data[8:8 + size])[name]["data_offsets"][0]
            data[begin:begin + 2] = struct.pack("<H", value)
            path.write_bytes(data)

        module = "model.layers.2.mlp.up_proj"
        scale_of(variant("gptq", "nan-scale"), module + ".scales", 0x7e00)
        scale_of(variant("w4a16", "zero-scale"), module + ".weight_scale", 0)

    def mixtures(self):
        """The bundled model as a Mixtral of four equal experts, which says what the model says, whatever is routed where."""
        folder = copy_model(self.model, self.work / "mixture")
        set_json(folder / "config.json", architectures=["MixtralForCausalLM"], model_type="mixtral", num_local_experts=4,
                 num_experts_per_tok=2)
        data = (folder / "model.safetensors").read_bytes()
        (size,) = struct.unpack_from("<Q", data)
        names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
        tensors = {}
        for name, entry in json.loads(data[8:8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + size + o for o in entry["data_offsets"])
            values = data[begin:end]
            layer, _, rest = name.partition(".mlp.")
            if not rest:
                tensors[name] = (entry["shape"], values)
                continue
            for expert in range(4):
                tensors[f"{layer}.block_sparse_moe.experts.{expert}.{names[rest.split('.')[0]]}.weight"] = (entry["shape"], values)
            router = b"".join(struct.pack("<H", 0x3c00 + (i * 7919) % 512) for i in range(4 * 256))  # bfloat16 around 0.01
            tensors[f"{layer}.block_sparse_moe.gate.weight"] = ([4, 256], router)
        header, at = {}, 0
        for name, (shape, values) in tensors.items():
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(values)]}
            at += len(values)
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"".join(v for _, v in tensors.values()))

    def spoiled(self):
        """good.gguf (Q4_0), and copies of it that are damaged in one place each."""
        subprocess.run([self.tsubu, "quantize", self.work / "base.gguf", "-o", self.work / "good.gguf", "--to", "Q4_0", "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        data = (self.work / "good.gguf").read_bytes()
        tensors, values, start = gguf_layout(data)

        def spoil(name, change):
            patched(self.work / "good.gguf", self.work / name, change)

        def zero_scale(d):  # the first block of row 5: a half, then 16 bytes of codes
            _, columns, offset_at = tensors["blk.2.ffn_up.weight"]
            at = start + struct.unpack_from("<Q", d, offset_at)[0] + 5 * (columns // 32 * 18)
            d[at:at + 2] = b"\0\0"

        def swap(d):
            a, b = tensors["blk.1.ffn_gate.weight"][2], tensors["blk.1.ffn_up.weight"][2]
            d[a:a + 8], d[b:b + 8] = d[b:b + 8], d[a:a + 8]

        def rope(d):
            struct.pack_into("<f", d, values["llama.rope.freq_base"], 500000.0)

        def rows(d):  # two rows of a matrix
            _, columns, offset_at = tensors["blk.4.attn_q.weight"]
            size = columns // 32 * 18
            a, b = (start + struct.unpack_from("<Q", d, offset_at)[0] + row * size for row in (3, 200))
            d[a:a + size], d[b:b + size] = d[b:b + size], d[a:a + size]

        def sign(d):  # the sign of one block's scale
            at = start + struct.unpack_from("<Q", d, tensors["blk.0.ffn_up.weight"][2])[0] + 9 * 18 + 1
            d[at] ^= 0x80

        def infinite(d):  # the last norm
            at = start + struct.unpack_from("<Q", d, tensors["output_norm.weight"][2])[0]
            struct.pack_into("<f", d, at, float("inf"))

        spoil("zero.gguf", zero_scale)
        spoil("swapped.gguf", swap)
        spoil("rope.gguf", rope)
        spoil("rows.gguf", rows)
        spoil("sign.gguf", sign)
        spoil("infinite.gguf", infinite)

    def questions(self):
        """Four questions whose answers any model of English gets, with groups; the same as prompts; gates."""
        rows = [("Once upon a time there was a little girl. She liked to play with her", ["dolls", "of the if"], 0, "stories"),
                ("The sun was hot and the sky was", ["blue", "the the and"], 0, "stories"),
                ("She said that she was very", ["happy", "of to with"], 0, "talk"),
                ("They went to the park to", ["play", "was had"], 0, "talk")]
        (self.work / "own.jsonl").write_text("".join(
            json.dumps({"query": q, "choices": c, "gold": g, "group": k}) + "\n" for q, c, g, k in rows))
        (self.work / "pairs.jsonl").write_text("".join(json.dumps({"prompt": q, "answer": c[g]}) + "\n" for q, c, g, _ in rows))
        (self.work / "prompts.txt").write_text("".join(q + "\n" for q, *_ in rows))
        (self.work / "bad.jsonl").write_text('{"query": "x", "choices": ["a"], "gold": 4}\n')
        (self.work / "unknown.jsonl").write_text('{"x": 1}\n')
        (self.work / "gates.json").write_text('{"max_kld": 0.5, "min_top1": 0.3, "max_size": "20MiB"}')
        (self.work / "bad-gates.json").write_text('{"max_kdl": 0.5}')

    def short_text(self):
        (self.work / "short.txt").write_text("Too short.")


def json_path(document, path):
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def run_file(path, tsubu, model, problems):
    steps = 0
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        fixtures = Fixtures(tsubu, model, work)
        env = dict(os.environ, PATH=f"{pathlib.Path(tsubu).parent}:{os.environ['PATH']}", MODEL=str(model), SOURCE=str(pathlib.Path(__file__).resolve().parent.parent))
        result, expected, where = None, 0, ""

        def check_exit():
            if result is not None and result.returncode != expected:
                problems.append(f"{where}: exit {result.returncode}, expected {expected}\n{result.stdout}{result.stderr}")

        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            word, _, rest = line.partition(" ")
            if word == "fixture":
                getattr(fixtures, rest)()
            elif word == "$":
                check_exit()
                where, expected = f"{path.name}:{number}: {rest}", 0
                steps += 1
                result = subprocess.run(["bash", "-c", rest], cwd=work, env=env, capture_output=True, text=True, errors="replace", timeout=300)
                if re.search(r"Sanitizer: |runtime error: |Assertion '.*' failed", result.stderr):  # whatever exit code is expected
                    problems.append(f"{where}: a sanitizer's report\n{result.stderr}")
            elif word == "exit":
                expected = int(rest)
            elif word in ("stdout", "stderr"):
                if not re.search(rest, getattr(result, word), re.M):
                    problems.append(f"{where}: no /{rest}/ in {word}:\n{getattr(result, word)}")
            elif word in ("file", "no-file"):
                if (work / rest).exists() != (word == "file"):
                    problems.append(f"{where}: {rest} is {'missing' if word == 'file' else 'there'}")
            elif word == "json":
                try:
                    json_path(json.loads(result.stdout), rest)
                except (ValueError, KeyError, IndexError, TypeError) as e:
                    problems.append(f"{where}: JSON path {rest}: {e!r}\n{result.stdout[:500]}")
            else:
                problems.append(f"{path.name}:{number}: unknown step '{word}'")
        check_exit()
    return steps


if __name__ == "__main__":
    tsubu, source = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    files = [p for p in sorted((source / "tests/cli").glob("*.txt")) if len(sys.argv) < 4 or p.stem in sys.argv[3:]]
    problems, steps = [], 0
    for path in files:
        steps += run_file(path, tsubu, source / "models/grain-7m", problems)
    print("\n".join(problems))
    print(f"{steps} commands in {len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems or not steps else 0)
