#!/usr/bin/env python3
"""Writes tiny random models of every supported architecture, as transformers saves them, and what they should say.

    make_tiny_models.py OUT [--data DIR]

OUT/<name>/ is a Hugging Face directory, OUT/text.txt a text, OUT/expected.json the perplexity of each model on that
text as transformers computes it in F32, by llama.cpp's protocol (windows of 512 tokens, BOS first where the tokenizer
adds one, the second half of each window scored). The weights are drawn wide, so that a wrong permutation, rope or bias
moves the perplexity. --data (default: $TSUBU_DATA) holds the tokenizers; models whose tokenizer is not there are left
out. Needs torch, transformers, sentencepiece and tokenizers.
"""
import argparse
import json
import math
import os
import pathlib
import pydoc_data.topics
import shutil

import sentencepiece
import tokenizers
import torch
import transformers

N_CTX = 512
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+")


def topics_text(n_bytes):
    """Plain English that every Python carries."""
    return "".join(text for _, text in sorted(pydoc_data.topics.topics.items()))[:n_bytes]


class SentencePieceFiles:
    def __init__(self, model):
        self.path, self.model = model, sentencepiece.SentencePieceProcessor(model_file=str(model))
        self.n_vocab, self.bos = self.model.vocab_size(), self.model.bos_id()

    def write(self, folder):
        shutil.copyfile(self.path, folder / "tokenizer.model")
        config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
                  "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    def encode(self, text):
        return [self.bos] + self.model.encode(text)


class Gpt2Files:
    def __init__(self, folder):
        self.folder, self.bos = folder, None
        self.model = tokenizers.ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        self.n_vocab = self.model.get_vocab_size()

    def write(self, folder):
        for name in ("vocab.json", "merges.txt"):
            shutil.copyfile(self.folder / name, folder / name)
        end = "<|endoftext|>"
        config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": end, "eos_token": end, "unk_token": end}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    def encode(self, text):
        return self.model.encode(text).ids


class QwenFiles:
    """A small byte-level BPE trained here, with Qwen2's pre-tokenizer and special tokens."""

    def __init__(self):
        pre = tokenizers.pre_tokenizers
        self.model = tokenizers.Tokenizer(tokenizers.models.BPE())
        self.model.normalizer = tokenizers.normalizers.NFC()
        self.model.pre_tokenizer = pre.Sequence([
            pre.Split(tokenizers.Regex(QWEN_SPLIT), behavior="isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False)])
        self.model.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=2048, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False)
        self.model.train_from_iterator(topics_text(400_000).split("\n"), trainer)
        self.model.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        self.n_vocab, self.bos = self.model.get_vocab_size() + 5, None  # as Qwen: more rows than tokens

    def write(self, folder):
        self.model.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "eos_token": "<|im_end|>",
                  "pad_token": "<|endoftext|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    def encode(self, text):
        return self.model.encode(text).ids


def decoder(**more):
    return dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=8,
                num_key_value_heads=2, max_position_embeddings=1024, rope_theta=10000.0, **more)


def rope(kind, factor, **more):
    return {"rope_parameters": dict(rope_type=kind, factor=factor, rope_theta=10000.0, **more)}


def model_list(spm, gpt2, qwen):
    """name, tokenizer, class, config, how it is saved."""
    t = transformers
    untied, tied = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
    llama3 = rope("llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
    yarn = rope("yarn", 4.0, original_max_position_embeddings=256)
    yarn_warm = rope("yarn", 4.0, original_max_position_embeddings=256, attention_factor=1.3)
    llama, mistral = (t.LlamaConfig, t.LlamaForCausalLM), (t.MistralConfig, t.MistralForCausalLM)
    qwen2, qwen3 = (t.Qwen2Config, t.Qwen2ForCausalLM), (t.Qwen3Config, t.Qwen3ForCausalLM)
    gpt = (t.GPT2Config, t.GPT2LMHeadModel)
    f32, bf16 = {"dtype": torch.float32}, {"dtype": torch.bfloat16}
    return [
        ("llama", spm, llama, decoder(**untied), f32),
        ("llama-bf16-sharded", spm, llama, decoder(**untied), {**bf16, "shard": "2MB"}),
        ("llama3-rope-tied", spm, llama, {**decoder(**tied), **llama3}, f32),
        ("llama-linear-biased", spm, llama,
         {**decoder(attention_bias=True, mlp_bias=True, **untied), **rope("linear", 3.0)}, f32),
        ("llama-wide-heads", spm, llama, decoder(head_dim=64, **untied), {"dtype": torch.float16}),
        ("llama-yarn", spm, llama, {**decoder(**untied), **yarn}, f32),
        ("mistral", spm, mistral, decoder(sliding_window=None, **untied), f32),
        ("qwen2", qwen, qwen2, decoder(**untied), f32),
        ("qwen2-yarn-tied", qwen, qwen2, {**decoder(**tied), **yarn_warm}, bf16),
        ("qwen3", qwen, qwen3, decoder(head_dim=64, **untied), f32),
        ("qwen3-tied", qwen, qwen3, decoder(head_dim=32, **tied), bf16),
        ("gpt2", gpt2, gpt, dict(n_embd=256, n_layer=2, n_head=8, n_positions=1024), f32),
        ("gpt2-inner", gpt2, gpt, dict(n_embd=128, n_layer=2, n_head=2, n_positions=1024, n_inner=320), f32),
    ]


def randomize(model, generator):
    """Weights with gain ~1, norms around 1, biases that matter."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1:
            p.data = (1 + 0.2 * noise) if "norm" in name or "ln_" in name and "weight" in name else 0.2 * noise
        elif "embed" in name or "wte" in name or "wpe" in name:
            p.data = 0.3 * noise
        else:
            p.data = noise * (1.2 / math.sqrt(256))


@torch.no_grad()
def perplexity(model, ids, bos):
    total, count = 0.0, 0
    for start in range(0, len(ids) - N_CTX + 1, N_CTX):
        window = torch.tensor(ids[start:start + N_CTX])
        if bos is not None:
            window[0] = bos
        logits = model(window[None]).logits[0].double()
        scored = torch.arange(N_CTX // 2, N_CTX - 1)
        log_probs = torch.log_softmax(logits[scored], dim=-1)
        total -= log_probs[torch.arange(len(scored)), window[scored + 1]].sum().item()
        count += len(scored)
    return {"perplexity": math.exp(total / count), "n_scored": count, "n_tokens": len(ids)}


def write_model(out, name, files, classes, config, saving):
    config_class, model_class = classes
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    full = config_class(vocab_size=files.n_vocab, attn_implementation="eager", **config)
    torch.manual_seed(1)
    model = model_class(full)
    randomize(model, torch.Generator().manual_seed(len(name)))
    model.tie_weights()
    model = model.to(saving["dtype"])
    model.save_pretrained(folder, max_shard_size=saving.get("shard", "1GB"))
    files.write(folder)
    # Read back, so that frequencies are computed in F32 from the weights as stored.
    return model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def main():
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("TSUBU_DATA"))
    parser.add_argument("--only", help="names that contain this")
    arguments = parser.parse_args()
    out, data = arguments.out, pathlib.Path(arguments.data or "/nonexistent")
    out.mkdir(parents=True, exist_ok=True)
    text = topics_text(12_000)
    (out / "text.txt").write_text(text)

    spm_path, gpt2_path = data / "models/mini21m/tokenizer.model", data / "tokenizers/gpt2"
    spm = SentencePieceFiles(spm_path) if spm_path.exists() else None
    gpt2 = Gpt2Files(gpt2_path) if gpt2_path.exists() else None
    expected = {}
    for name, files, classes, config, saving in model_list(spm, gpt2, QwenFiles()):
        if arguments.only and arguments.only not in name:
            continue
        if files is None:
            print(f"{name}: left out, its tokenizer is not in {data}")
            continue
        model = write_model(out, name, files, classes, config, saving)
        expected[name] = perplexity(model, files.encode(text), files.bos)
        print(f"{name}: {expected[name]}")
    (out / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
