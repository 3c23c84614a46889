#!/usr/bin/env python3
"""A mixture of experts from a dense Llama checkpoint, to measure on where no trained mixture is at hand ("upcycling", Komatsuzaki
et al. 2212.05055, without the training that follows): each feed-forward is copied into N experts, every weight of a copy moved by
a normal number of NOISE standard deviations of its matrix; the router's rows are the centers of a spherical k-means over the
inputs that the feed-forward sees in TEXT, less their mean, so that experts get tokens of different kinds, and different numbers of them.
What it is not: experts that were trained apart.

upcycle_experts.py TSUBU DENSE_DIR TEXT OUT_DIR [N] [USED] [NOISE]     (needs numpy)"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy as np


def read(path):
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + o for o in entry["data_offsets"])
        assert entry["dtype"] == "BF16", entry["dtype"]
        raw = np.frombuffer(data[begin:end], dtype="<u2").astype(np.uint32) << 16
        tensors[name] = raw.view(np.float32).reshape(entry["shape"])
    return tensors


def bf16(a):
    bits = np.ascontiguousarray(a, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def write(path, tensors):
    header, at, parts = {}, 0, []
    for name, a in tensors.items():
        values = bf16(a)
        header[name] = {"dtype": "BF16", "shape": list(a.shape), "data_offsets": [at, at + len(values)]}
        at += len(values)
        parts.append(values)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(parts))


def norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain


def feed_forward_inputs(config, t, windows):
    """The input of each layer's feed-forward, (tokens, hidden), of a dense Llama."""
    n_heads, n_kv, d = config["num_attention_heads"], config["num_key_value_heads"], config["hidden_size"]
    head, eps = config.get("head_dim") or d // n_heads, config["rms_norm_eps"]
    length = windows.shape[1]
    angle = np.arange(length)[:, None] * config["rope_theta"] ** (-np.arange(0, head, 2) / head)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)

    def turn(x):
        a, b = x[..., :head // 2], x[..., head // 2:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    seen = [[] for _ in range(config["num_hidden_layers"])]
    for ids in windows:
        x = t["model.embed_tokens.weight"][ids]
        for layer in range(config["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            h = norm(x, t[p + "input_layernorm.weight"], eps)
            q, k, v = (np.moveaxis((h @ t[p + f"self_attn.{n}_proj.weight"].T).reshape(length, -1, head), 0, 1) for n in "qkv")
            k, v = (np.repeat(a, n_heads // n_kv, 0) for a in (turn(k), v))
            s = turn(q) @ k.transpose(0, 2, 1) / np.float32(head ** .5) + mask
            s = np.exp(s - s.max(-1, keepdims=True))
            a = np.moveaxis(s / s.sum(-1, keepdims=True) @ v, 0, 1).reshape(length, -1)
            x = x + a @ t[p + "self_attn.o_proj.weight"].T
            h = norm(x, t[p + "post_attention_layernorm.weight"], eps)
            seen[layer].append(h)
            g = h @ t[p + "mlp.gate_proj.weight"].T
            x = x + (g / (1 + np.exp(-g)) * (h @ t[p + "mlp.up_proj.weight"].T)) @ t[p + "mlp.down_proj.weight"].T
    return [np.concatenate(s) for s in seen]


def centers(x, n, random):
    """Unit centers of a spherical k-means over x less its mean."""
    y = x - x.mean(0)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    c = y[random.choice(len(y), n, replace=False)]
    for _ in range(20):
        nearest = (y @ c.T).argmax(1)
        c = np.stack([y[nearest == e].sum(0) if (nearest == e).any() else y[random.integers(len(y))] for e in range(n)])
        c /= np.linalg.norm(c, axis=1, keepdims=True)
    return c


def main():
    tsubu, source, text, out = sys.argv[1], *(pathlib.Path(a) for a in sys.argv[2:5])
    n, used, noise = int((sys.argv[5:6] or [8])[0]), int((sys.argv[6:7] or [2])[0]), float((sys.argv[7:8] or [.1])[0])
    config = json.loads((source / "config.json").read_text())
    tensors = read(source / "model.safetensors")
    answer = subprocess.run([tsubu, "tokenize", source, "--stdin", "--json"], input=text.read_bytes()[:60000], capture_output=True, check=True)
    ids = np.array([t["id"] for t in json.loads(answer.stdout)["tokens"]])[:32 * 256].reshape(-1, 256)
    random = np.random.default_rng(1)
    inputs = feed_forward_inputs(config, tensors, ids)
    out.mkdir()
    for file in source.iterdir():
        if file.suffix not in (".safetensors", ".md", ".txt"):
            shutil.copy(file, out / file.name)
    config.update(architectures=["MixtralForCausalLM"], model_type="mixtral", num_local_experts=n, num_experts_per_tok=used)
    (out / "config.json").write_text(json.dumps(config, indent=2))
    names, made = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}, {}
    for name, a in tensors.items():
        layer, _, rest = name.partition(".mlp.")
        if not rest:
            made[name] = a
            continue
        for e in range(n):
            moved = a + noise * a.std() * random.standard_normal(a.shape, dtype=np.float32)
            made[f"{layer}.block_sparse_moe.experts.{e}.{names[rest.split('.')[0]]}.weight"] = moved
        if rest.startswith("gate"):
            x = inputs[int(layer.split(".")[-1])]
            c = centers(x, n, random)
            c *= 4 / ((x - x.mean(0)) @ c.T).std()  # gates neither equal nor one alone
            made[layer + ".block_sparse_moe.gate.weight"] = c
            order = np.argsort(-(x @ c.T), axis=1)[:, :used]
            print(layer, "tokens of each expert:", np.bincount(order.ravel(), minlength=n).tolist())
    write(out / "model.safetensors", made)


if __name__ == "__main__":
    main()
