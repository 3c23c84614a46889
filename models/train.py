#!/usr/bin/env python3
"""Train a small Llama-architecture model on a CPU and write it as a Hugging Face directory.

Example (two CPU cores, about three quarters of an hour):

    python3 models/train.py --text books.txt.zst:0.6 --text tinystories.txt:0.4 \\
        --holdout "The Canterville Ghost" --out models/grain-7m --minutes 45 --compile

Every --text is a UTF-8 file (plain, or .zst) of documents, each closed by <|endoftext|> (what
follows the last one is taken for a torn end and dropped); the number after the colon is its share
of the training rows.  A document may begin with a "Title: ..." header
closed by a line of dashes: the header is dropped and the title can be named by --holdout.  Files
without a held-out title lose the last --holdout-share of their documents instead.

What it does, in order:
  1. cleans the documents, splits off the held-out ones, trains a SentencePiece BPE vocabulary with
     byte fallback and tokenises everything (kept in --work, so that a second run skips this);
  2. trains: rows of `context` tokens that begin with BOS, Muon for the matrices, AdamW for the
     embedding, the head and the norms, warm-up, constant phase, linear decay to zero.  Progress is
     measured in wall-clock time (--minutes) or, to be reproducible to the bit, in --steps;
  3. writes checkpoints to --work (--resume goes on from the last one) and exports to --out:
     config.json, generation_config.json, model.safetensors (bf16), tokenizer.model,
     tokenizer_config.json, heldout.txt and calib.txt.  Each file is replaced atomically.

The held-out perplexity is that of heldout.txt as one token stream, cut into windows of context - 1
tokens, each behind one BOS, every token of every window scored.
"""
import argparse
import io
import json
import math
import os
import random
import re
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SEPARATOR = "<|endoftext|>"
UNK, BOS, EOS = 0, 1, 2


def die(message):
    sys.exit(f"train.py: {message}")


def positive(kind):
    def parse(text):
        value = kind(text)
        if not 0 < value < 1e12:
            raise ValueError
        return value
    parse.__name__ = f"positive {kind.__name__}"
    return parse


def parse_args():
    p = argparse.ArgumentParser(description="Train a small Llama-architecture model on a CPU.",
                                epilog="See the top of the file for the whole story.")
    p.add_argument("--text", action="append", required=True, metavar="FILE[:SHARE]",
                   help="training text, plain or .zst; may be given several times")
    p.add_argument("--out", required=True, type=Path, help="directory of the exported model")
    p.add_argument("--work", type=Path, help="directory of tokens and checkpoints (default OUT.work)")
    p.add_argument("--minutes", type=positive(float), default=45, help="training time (default 45)")
    p.add_argument("--steps", type=positive(int), help="train this many steps instead of --minutes")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --work")
    p.add_argument("--holdout", action="append", default=[], metavar="TITLE",
                   help="a document never trained on, by its title; may be given several times")
    p.add_argument("--skip", action="append", default=[], metavar="TITLE",
                   help="a document not to be used at all, by its title")
    for name, kind, default, text in (
            ("holdout-share", float, 0.05, "share held out at the end of files without a held-out title"),
            ("heldout-bytes", int, 180_000, "size of heldout.txt"),
            ("calib-bytes", int, 300_000, "size of calib.txt"),
            ("vocab", int, 4096, "pieces of the vocabulary"), ("hidden", int, 256, "model width"),
            ("ffn", int, 768, "feed-forward width"), ("layers", int, 6, "layers"),
            ("heads", int, 4, "query heads"), ("kv-heads", int, 2, "key and value heads"),
            ("context", int, 256, "tokens of a row"), ("batch", int, 24, "rows of a step"),
            ("micro", int, 4, "rows a thread takes at a time"),
            ("muon-lr", float, 0.02, "learning rate of the matrices"),
            ("adam-lr", float, 0.004, "learning rate of everything else"),
            ("weight-decay", float, 0.05, "of the matrices"), ("warmup", float, 0.02, "share of the run"),
            ("hold", float, 0.25, "share of the run before the decay"),
            ("save-minutes", float, 4, "time between checkpoints and exports"),
            ("seed", int, 1, "of everything random"), ("threads", int, 2, "threads")):
        p.add_argument(f"--{name}", type=positive(kind), default=default, help=f"{text} ({default})")
    p.add_argument("--fp32", action="store_true", help="no bf16 autocast")
    p.add_argument("--compile", action="store_true", help="use torch.compile")
    p.add_argument("--prompt", default="Once upon a time", help="of the sample printed at the end")
    a = p.parse_args()
    a.sources = []
    for spec in a.text:
        match = re.fullmatch(r"(.+):(\d*\.?\d+)", spec)
        path, share = (Path(match[1]), float(match[2])) if match else (Path(spec), 1.0)
        if not path.is_file():
            die(f"no such text file: {path}")
        if share == 0:
            die(f"the share of {path} must be positive")
        a.sources.append((path, share))
    if len({path.name for path, _ in a.sources}) != len(a.sources):
        die("two --text files share one name")
    if a.hidden % a.heads or a.heads % a.kv_heads or (a.hidden // a.heads) % 2:
        die("--heads must divide --hidden into even heads and --kv-heads must divide --heads")
    if a.batch % a.micro or a.context < 8:
        die("--micro must divide --batch, and --context must be 8 or more")
    if not a.warmup <= a.hold < 1:
        die("--warmup <= --hold < 1 is required")
    if a.holdout_share >= 1:
        die("--holdout-share must be below 1")
    a.work = a.work or a.out.with_name(a.out.name + ".work")
    if a.resume and not (a.work / "checkpoint.pt").is_file():
        die(f"--resume: there is no checkpoint in {a.work}")
    return a


# ---------------------------------------------------------------------------------------- text

def read_text(path):
    if path.suffix == ".zst":
        try:
            data = subprocess.run(["zstd", "-dcq", str(path)], check=True, capture_output=True).stdout
        except FileNotFoundError:
            die(f"{path} needs the zstd program")
        except subprocess.CalledProcessError as e:
            die(f"{path}: {e.stderr.decode(errors='replace').strip()}")
    else:
        data = path.read_bytes()
    return data.decode("utf-8", errors="replace")


PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--",
                       "\u2013": "-", "\u00a0": " ", "\u2026": "...", "\ufeff": "", "\r": ""})


def clean(text):
    """(title, body): header, licence and picture lines, italics marks and odd blanks removed."""
    title = ""
    header = re.match(r"\s*Title: (.*)\n(?:[^\n]*\n){0,8}?-{3,}\n", text)
    if header:
        title, text = header[1].strip(), text[header.end():]
    text = text.translate(PLAIN)
    text = re.sub(r"(?im)^.*(project gutenberg|gutenberg\.org|\[illustration).*$", "", text)
    text = re.sub(r"\b_|_\b|(?<=\W)_(?=\w)|(?<=\w)_(?=\W)", "", text)
    text = re.sub(r"(?m)^[ \t*]+$|^[ \t]+|[ \t]+$", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    return title, re.sub(r"\n{3,}", "\n\n", text).strip()


def load(a):
    """Per source: (training documents, held-out documents)."""
    sources, found = [], set()
    for path, _ in a.sources:
        pieces = read_text(path).split(SEPARATOR)
        if len(pieces) > 1:
            pieces.pop()                        # behind the last separator: nothing, or a torn end
        docs = [d for d in map(clean, pieces) if d[1] and d[0] not in a.skip]
        held = [d for d in docs if d[0] and d[0] in a.holdout]
        found |= {d[0] for d in held}
        if not held:
            held = docs[-max(1, round(len(docs) * a.holdout_share)):] if len(docs) > 1 else []
        out = {id(d) for d in held}
        train = [d[1] for d in docs if id(d) not in out]
        if not train or not held:
            die(f"{path}: two documents at least are needed, one to train on and one to hold out")
        print(f"{path.name}: {len(train)} documents, {sum(map(len, train)) / 1e6:.1f} M characters; "
              f"held out {len(held)}, {sum(len(d[1]) for d in held) / 1e6:.2f} M")
        sources.append((train, [d[1] for d in held]))
    if set(a.holdout) - found:
        die(f"no document is titled {sorted(set(a.holdout) - found)[0]!r}")
    return sources


def excerpt(text, size, start=0):
    """About `size` characters from `start` on, in whole lines."""
    if start:
        start = text.find("\n", start) + 1
    end = len(text) if start + size >= len(text) else text.rfind("\n", start, start + size)
    return text[start:max(end, start + 1)].strip()


def heldout_text(a, sources):
    """A mix of the held-out documents: three quarters long ones, the short ones between them."""
    held = [d for _, docs in sources for d in docs]
    long, short = [d for d in held if len(d) >= 20_000], [d for d in held if len(d) < 20_000]
    size = int(a.heldout_bytes * (0.75 if short else 1) / max(1, len(long)))
    long, parts = [excerpt(d, size) for d in long] or [""], []
    for i, first in enumerate(long):
        parts += [first] if first else []
        room = (a.heldout_bytes - sum(map(len, long))) / len(long)
        for d in short[i::len(long)]:
            if len(d) > room:
                break
            parts.append(d)
            room -= len(d) + 2
    return "\n\n".join(parts) + "\n"


def calib_text(a, sources):
    """Random excerpts of the training documents of every source, in proportion to the shares."""
    rng, parts = random.Random(a.seed), []
    total = sum(share for _, share in a.sources)
    for (train, _), (_, share) in zip(sources, a.sources):
        room = a.calib_bytes * share / total
        while room > 0:
            doc = rng.choices(train, weights=[len(d) for d in train])[0]
            part = excerpt(doc, 2000, rng.randrange(len(doc)) if len(doc) > 4000 else 0)
            if part:
                parts.append(part)
            room -= max(1, len(part))
    rng.shuffle(parts)
    return "\n\n".join(parts) + "\n"


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data if isinstance(data, bytes) else data.encode())
    os.replace(temporary, path)


def prepare(a, np, spm):
    """Tokenizer, tokens of every source, held-out text: from --work, or made and kept there."""
    stamp, recipe = a.work / "recipe.json", json.dumps(
        [[p.name, p.stat().st_size, share] for p, share in a.sources] +
        [a.holdout, a.skip, a.holdout_share, a.heldout_bytes, a.calib_bytes, a.vocab, a.seed])
    if not stamp.is_file() or stamp.read_text() != recipe:
        if a.resume:
            die(f"--resume: the texts in {a.work} were made with other options")
        a.work.mkdir(parents=True, exist_ok=True)
        sources = load(a)
        write(a.work / "heldout.txt", heldout_text(a, sources))
        write(a.work / "calib.txt", calib_text(a, sources))
        rng = random.Random(a.seed)             # 8 M characters, mixed like the training rows
        total, lines = sum(share for _, share in a.sources), []
        for (train, _), (_, share) in zip(sources, a.sources):
            mine = [line for d in train for line in d.split("\n") if 0 < len(line) < 4000]
            rng.shuffle(mine)
            room = 8e6 * share / total
            for line in mine:
                lines.append(line)
                room -= len(line)
                if room < 0:
                    break
        pieces = io.BytesIO()
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=pieces,
            model_type="bpe", vocab_size=a.vocab, byte_fallback=True, split_digits=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            character_coverage=0.9999, unk_id=UNK, bos_id=BOS, eos_id=EOS, pad_id=-1,
            num_threads=a.threads, minloglevel=1)
        write(a.work / "tokenizer.model", pieces.getvalue())
        sp = spm.SentencePieceProcessor(model_file=str(a.work / "tokenizer.model"))
        for (train, _), (path, _) in zip(sources, a.sources):
            ids = [np.array([BOS, *sp.encode(d), EOS], dtype=np.uint16) for d in train]
            np.save(a.work / f"{path.name}.npy", np.concatenate(ids))
        write(stamp, recipe)
    sp = spm.SentencePieceProcessor(model_file=str(a.work / "tokenizer.model"))
    tokens = [np.load(a.work / f"{path.name}.npy") for path, _ in a.sources]
    for (path, share), t in zip(a.sources, tokens):
        if len(t) <= a.context + 2:
            die(f"{path} is shorter than one row")
        print(f"{path.name}: {len(t) / 1e6:.2f} M tokens, share {share}")
    held = np.array(sp.encode((a.work / "heldout.txt").read_text()), dtype=np.int64)
    return sp, tokens, held


def draw_rows(a, np, rng, tokens, starts):
    """Random rows: half begin at the start of a line, half anywhere; all begin with BOS."""
    shares, rows = np.array([share for _, share in a.sources]), []
    for _ in range(a.batch):
        s = rng.choice(len(tokens), p=shares / shares.sum())
        at = int(rng.integers(len(tokens[s]) - a.context - 1))
        if rng.random() < 0.5:
            at = starts[s][max(0, np.searchsorted(starts[s], at, side="right") - 1)]
        rows.append(tokens[s][at:at + a.context + 1].astype(np.int64))
        rows[-1][0] = BOS
    return np.stack(rows)


# ---------------------------------------------------------------------------------------- model

def build(a, torch):
    """LlamaForCausalLM with the parameter names and the rotary layout of Hugging Face."""
    nn, F = torch.nn, torch.nn.functional
    dim = a.hidden // a.heads

    def linear(n_in, n_out, std=0.02):
        m = nn.Linear(n_in, n_out, bias=False)
        nn.init.normal_(m.weight, std=std)
        return m

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj = linear(a.hidden, a.heads * dim)
            self.k_proj = linear(a.hidden, a.kv_heads * dim)
            self.v_proj = linear(a.hidden, a.kv_heads * dim)
            self.o_proj = linear(a.heads * dim, a.hidden, 0.02 / math.sqrt(2 * a.layers))

        def forward(self, x, cos, sin):
            b, t, _ = x.shape

            def split(y, rotate=True):
                y = y.view(b, t, -1, dim).transpose(1, 2)
                if not rotate:
                    return y
                half = torch.cat((-y[..., dim // 2:], y[..., :dim // 2]), -1)
                return y * cos[:t] + half * sin[:t]

            groups = a.heads // a.kv_heads
            k = split(self.k_proj(x)).repeat_interleave(groups, 1)
            v = split(self.v_proj(x), False).repeat_interleave(groups, 1)
            y = F.scaled_dot_product_attention(split(self.q_proj(x)), k, v, is_causal=True)
            return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj = linear(a.hidden, a.ffn)
            self.up_proj = linear(a.hidden, a.ffn)
            self.down_proj = linear(a.ffn, a.hidden, 0.02 / math.sqrt(2 * a.layers))

        def forward(self, x):
            return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_layernorm = nn.RMSNorm(a.hidden, eps=1e-5)
            self.self_attn = Attention()
            self.post_attention_layernorm = nn.RMSNorm(a.hidden, eps=1e-5)
            self.mlp = Mlp()

        def forward(self, x, cos, sin):
            x = x + self.self_attn(self.input_layernorm(x), cos, sin)
            return x + self.mlp(self.post_attention_layernorm(x))

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = nn.Embedding(a.vocab, a.hidden)
            nn.init.normal_(self.embed_tokens.weight, std=0.02)
            self.layers = nn.ModuleList(Layer() for _ in range(a.layers))
            self.norm = nn.RMSNorm(a.hidden, eps=1e-5)

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Body()
            self.lm_head = linear(a.hidden, a.vocab)
            angle = torch.outer(torch.arange(a.context, dtype=torch.float32),
                                10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim))
            angle = torch.cat((angle, angle), -1)
            for name, value in (("cos", angle.cos()), ("sin", angle.sin())):
                self.register_buffer(name, value, persistent=False)

        def forward(self, ids, targets=None):
            x = self.model.embed_tokens(ids)
            cos, sin = self.cos, self.sin
            if torch.is_autocast_enabled("cpu"):
                x, cos, sin = x.bfloat16(), cos.bfloat16(), sin.bfloat16()
            for layer in self.model.layers:
                x = layer(x, cos, sin)
            logits = self.lm_head(self.model.norm(x))
            if targets is None:
                return logits.float()
            return F.cross_entropy(logits.float().view(-1, a.vocab), targets.reshape(-1))

    return Llama()


class Muon:
    """Momentum whose update is orthogonalised by Newton-Schulz steps; equal shapes in one batch."""

    def __init__(self, torch, params, weight_decay, momentum=0.95):
        self.torch, self.decay, self.momentum = torch, weight_decay, momentum
        shapes = {}
        for p in params:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.groups = [g[i:i + 6] for g in shapes.values() for i in range(0, len(g), 6)]
        self.buffers = [torch.zeros(len(g), *g[0].shape) for g in self.groups]

    def step(self, lr, pool):
        list(pool.map(lambda g: self.step_group(*g, lr), zip(self.groups, self.buffers)))

    def step_group(self, group, buffer, lr):
        grad = self.torch.stack([p.grad for p in group])
        buffer.lerp_(grad, 1 - self.momentum)
        update = grad.lerp_(buffer, self.momentum)
        rows, columns = update.shape[1:]
        x = update.mT if rows > columns else update
        x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
        for _ in range(5):
            square = x @ x.mT
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        x = (x.mT if rows > columns else x).float() * max(1, rows / columns) ** 0.5
        for p, u in zip(group, x):
            p.data.mul_(1 - lr * self.decay).add_(u, alpha=-lr)


# ---------------------------------------------------------------------------------------- export

def export(a, torch, model):
    from safetensors.torch import save
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": a.vocab,
        "hidden_size": a.hidden, "intermediate_size": a.ffn, "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads, "num_key_value_heads": a.kv_heads,
        "head_dim": a.hidden // a.heads, "max_position_embeddings": a.context,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
        "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
        "initializer_range": 0.02, "tie_word_embeddings": False, "pretraining_tp": 1,
        "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": None, "use_cache": True,
        "torch_dtype": "bfloat16"}
    tokenizer = {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None,
        "model_max_length": a.context, "clean_up_tokenization_spaces": False,
        "legacy": True, "sp_model_kwargs": {}}
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": True,
                  "temperature": 0.8, "top_p": 0.95}
    for name, value in (("config", config), ("tokenizer_config", tokenizer),
                        ("generation_config", generation)):
        write(a.out / f"{name}.json", json.dumps(value, indent=2) + "\n")
    for name in ("tokenizer.model", "heldout.txt", "calib.txt"):
        write(a.out / name, (a.work / name).read_bytes())
    write(a.out / "model.safetensors", save(tensors, metadata={"format": "pt"}))


def evaluate(a, torch, model, held, limit=None):
    """Mean loss per token of the held-out stream in windows behind one BOS each."""
    width = a.context - 1
    windows = torch.from_numpy(held[:len(held) // width * width].reshape(-1, width))[:limit]
    total = 0.0
    with torch.inference_mode():
        for w in windows.split(16):
            ids = torch.cat((torch.full((len(w), 1), BOS), w[:, :-1]), 1)
            total += model(ids, w).item() * len(w)
    return total / len(windows)


def sample(a, torch, model, sp, prompt, count=200, temperature=0.7):
    generator, ids = torch.Generator().manual_seed(a.seed), [BOS, *sp.encode(prompt)]
    with torch.inference_mode():
        while len(ids) < a.context and count > 0 and ids[-1] != EOS:
            p = (model(torch.tensor([ids]))[0, -1] / temperature).softmax(-1)
            ids.append(torch.multinomial(p, 1, generator=generator).item())
            count -= 1
    return sp.decode([i for i in ids if i not in (BOS, EOS)])


# ---------------------------------------------------------------------------------------- train

def train(a, np, torch, spm):
    warnings.filterwarnings("ignore", message="Mismatch dtype")     # of bf16 rows and f32 norms
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)                    # of one operation; the steps run in a pool, below
    sp, tokens, held = prepare(a, np, spm)
    newline, rng = sp.piece_to_id("<0x0A>"), np.random.default_rng(a.seed)
    starts = [np.flatnonzero((t[:-a.context - 1] == BOS) | (t[:-a.context - 1] == newline)) for t in tokens]
    model = build(a, torch)
    matrices = [p for n, p in model.named_parameters() if n.endswith("_proj.weight")]
    others = [p for n, p in model.named_parameters() if not n.endswith("_proj.weight")]
    muon = Muon(torch, matrices, a.weight_decay)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0, fused=True)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
          f"{len(held)} held-out tokens")
    step, elapsed = 0, 0.0
    checkpoint = a.work / "checkpoint.pt"
    if a.resume:
        state = torch.load(checkpoint, weights_only=False)
        try:
            model.load_state_dict(state["model"])
        except RuntimeError:
            die("--resume: the checkpoint has another shape")
        adam.load_state_dict(state["adam"])
        for buffer, saved in zip(muon.buffers, state["muon"]):
            buffer.copy_(saved)
        rng.bit_generator.state = state["rows"]
        step, elapsed = state["step"], state["elapsed"]
        print(f"resumed at step {step}, {elapsed / 60:.1f} min")

    def save():
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.buffers,
                    "rows": rng.bit_generator.state, "step": step, "elapsed": elapsed}, temporary)
        os.replace(temporary, checkpoint)
        export(a, torch, model)

    # Every thread takes `micro` rows at a time from the step's batch: where the machine is shared,
    # the thread that gets less of it takes fewer.
    forward, params = torch.compile(model) if a.compile else model, list(model.parameters())
    pool = ThreadPoolExecutor(a.threads, initializer=torch.set_num_threads, initargs=(1,))

    def part(rows):
        with torch.autocast("cpu", torch.bfloat16, enabled=not a.fp32):
            loss = forward(rows[:, :-1], rows[:, 1:])
        return loss.item(), torch.autograd.grad(loss, params)

    def gradients(batch):
        pieces = batch.split(a.micro)
        losses, grads = zip(*pool.map(part, pieces))

        def total(i):
            params[i].grad = grads[0][i]
            for g in grads[1:]:
                params[i].grad.add_(g[i])
            params[i].grad.div_(len(pieces))

        list(pool.map(total, range(len(params))))
        return sum(losses) / len(losses)

    if a.compile:                               # on one thread, and outside the training time
        pool.submit(part, torch.zeros(a.micro, a.context + 1, dtype=torch.long)).result()
    budget, per_step = a.minutes * 60, a.batch * a.context
    clock, saved, average, shown = time.monotonic(), elapsed, None, time.monotonic()
    shown_step = step
    while True:
        progress = step / a.steps if a.steps else elapsed / budget
        if progress >= 1:
            break
        scale = min(1.0, (progress + 1e-3) / max(a.warmup, 1e-3), (1 - progress) / (1 - a.hold))
        batch = torch.from_numpy(draw_rows(a, np, rng, tokens, starts))
        value = gradients(batch)
        muon.step(a.muon_lr * scale, pool)
        for g in adam.param_groups:
            g["lr"] = a.adam_lr * scale
        adam.step()
        for p in model.parameters():
            p.grad = None
        step += 1
        if not math.isfinite(value):
            die(f"the loss is {value} at step {step}")
        average = value if average is None else 0.95 * average + 0.05 * value
        now = time.monotonic()
        elapsed, clock = elapsed + now - clock, now
        if now - shown > 10 or step == 1:
            rate = (step - shown_step) * per_step / (now - shown)
            eta = (a.steps - step) * per_step / rate if a.steps else budget - elapsed
            print(f"step {step}  {elapsed / 60:.1f} min  loss {average:.3f}  lr x{scale:.2f}  "
                  f"{rate:.0f} tok/s  {step * per_step / 1e6:.2f} M tokens  ETA {eta / 60:.1f} min",
                  flush=True)
            shown, shown_step = now, step
        if elapsed - saved > a.save_minutes * 60:
            save()
            loss = evaluate(a, torch, model, held, 40)
            print(f"saved; held-out (40 windows) {loss:.3f}, perplexity {math.exp(loss):.2f}", flush=True)
            saved, clock = elapsed, time.monotonic()
    save()
    for p in model.parameters():
        p.data = p.data.bfloat16().float()      # measure what was exported
    loss = evaluate(a, torch, model, held)
    print(f"done: {step} steps, {step * per_step / 1e6:.2f} M tokens, {elapsed / 60:.1f} min; "
          f"held-out loss {loss:.4f}, perplexity {math.exp(loss):.2f}")
    print(sample(a, torch, model, sp, a.prompt))


def main():
    a = parse_args()
    try:
        import numpy as np
        import sentencepiece as spm
        import torch
        import safetensors.torch  # noqa: F401
    except ImportError as e:
        die(f"{e}; pip install torch numpy safetensors sentencepiece")
    train(a, np, torch, spm)


if __name__ == "__main__":
    main()
