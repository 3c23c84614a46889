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
import io
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
BLOOM_SPLIT = r" ?[^(\s|[.,!?…。，、।۔،])]+"
GPT4O_SPLIT = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
               r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
               r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


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


class GemmaFiles:
    """A small SentencePiece BPE trained here as Gemma's was: no space before the text, spaces kept, byte fallback."""

    def __init__(self):
        trained = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(topics_text(400_000).split("\n")), model_writer=trained, vocab_size=1500,
            model_type="bpe", byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
            normalization_rule_name="identity", split_digits=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
            pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", num_threads=1, minloglevel=2,
            user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n\n", "\u2581\u2581", "\u2581\u2581\u2581\u2581"])
        self.bytes = trained.getvalue()
        self.model = sentencepiece.SentencePieceProcessor(model_proto=self.bytes)
        self.n_vocab, self.bos = self.model.vocab_size(), self.model.bos_id()

    def write(self, folder):
        (folder / "tokenizer.model").write_bytes(self.bytes)
        config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False,
                  "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    def encode(self, text):
        return [self.bos] + self.model.encode(text)


class BpeFiles:
    """A small byte-level BPE trained here, with one model's pre-tokenizer and Qwen's special tokens."""

    def __init__(self, split=QWEN_SPLIT):
        pre = tokenizers.pre_tokenizers
        self.model = tokenizers.Tokenizer(tokenizers.models.BPE())
        self.model.normalizer = tokenizers.normalizers.NFC()
        self.model.pre_tokenizer = pre.Sequence([
            pre.Split(tokenizers.Regex(split), behavior="isolated"),
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


def longrope(original, head_dim, partial=1.0):
    n = int(head_dim * partial) // 2
    return {"original_max_position_embeddings": original,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": partial,
                                "original_max_position_embeddings": original,
                                "short_factor": [1 + 0.02 * i for i in range(n)],
                                "long_factor": [1 + 0.5 * i for i in range(n)]}}


def model_list(spm, gpt2, qwen):
    """name, tokenizer, class, config, how it is saved. "other" in the last: how llama.cpp differs, by its own choice."""
    t = transformers
    untied, tied = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
    llama3 = rope("llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
    yarn = rope("yarn", 4.0, original_max_position_embeddings=256)
    yarn_warm = rope("yarn", 4.0, original_max_position_embeddings=256, attention_factor=1.3)
    llama, mistral = (t.LlamaConfig, t.LlamaForCausalLM), (t.MistralConfig, t.MistralForCausalLM)
    qwen2, qwen3 = (t.Qwen2Config, t.Qwen2ForCausalLM), (t.Qwen3Config, t.Qwen3ForCausalLM)
    gpt = (t.GPT2Config, t.GPT2LMHeadModel)
    gemma, bloom, gpt4o = GemmaFiles(), BpeFiles(BLOOM_SPLIT), BpeFiles(GPT4O_SPLIT)
    neox, gpt_oss = (t.GPTNeoXConfig, t.GPTNeoXForCausalLM), (t.GptOssConfig, t.GptOssForCausalLM)
    neox_shape = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=8,
                      max_position_embeddings=1024)
    gpt_oss_shape = decoder(head_dim=32, num_local_experts=8, num_experts_per_tok=3, sliding_window=64, **untied)
    yarn_whole = rope("yarn", 4.0, original_max_position_embeddings=256, truncate=False)
    deepseek_v2 = (t.DeepseekV2Config, t.DeepseekV2ForCausalLM)
    deepseek_v3 = (t.DeepseekV3Config, t.DeepseekV3ForCausalLM)
    latent = dict(hidden_size=256, intermediate_size=512, num_attention_heads=8, num_key_value_heads=8,
                  max_position_embeddings=1024, kv_lora_rank=64,
                  qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=48, moe_intermediate_size=128, rope_theta=10000.0,
                  num_hidden_layers=3, first_k_dense_replace=1)
    yarn_scores = rope("yarn", 4.0, original_max_position_embeddings=256, mscale=0.707, mscale_all_dim=0.707)
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
        ("gemma2", gemma, (t.Gemma2Config, t.Gemma2ForCausalLM),
         decoder(head_dim=32, sliding_window=64, query_pre_attn_scalar=32, attn_logit_softcapping=4.0,
                 final_logit_softcapping=8.0), f32),
        ("gemma2-uneven", gemma, (t.Gemma2Config, t.Gemma2ForCausalLM),
         decoder(head_dim=48, sliding_window=96, query_pre_attn_scalar=20, layer_types=["full_attention", "sliding_attention"]),
         {**bf16, "other": "its scale follows from the number of layers"}),
        ("gemma3", gemma, (t.Gemma3TextConfig, t.Gemma3ForCausalLM),
         {**decoder(head_dim=32, sliding_window=64, query_pre_attn_scalar=32), "num_hidden_layers": 7,
          "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                              "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}, f32),
        ("gemma3-bf16", gemma, (t.Gemma3TextConfig, t.Gemma3ForCausalLM),
         {**decoder(head_dim=32, sliding_window=48, query_pre_attn_scalar=32),
          "layer_types": ["full_attention", "sliding_attention"],
          "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6},
                              "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}}}, bf16),
        # llama.cpp wants Phi-3's special tokens of a model that is called so.
        ("phi", spm, (t.Phi3Config, t.Phi3ForCausalLM), decoder(pad_token_id=0, **untied), f32),
        ("phi-window", spm, (t.Phi3Config, t.Phi3ForCausalLM), decoder(pad_token_id=0, sliding_window=100, **untied),
         {**f32, "other": "it leaves the sliding window out"}),
        ("phi-long", spm, (t.Phi3Config, t.Phi3ForCausalLM), {**decoder(pad_token_id=0, **tied), **longrope(256, 32)}, f32),
        ("phi-short", spm, (t.Phi3Config, t.Phi3ForCausalLM), {**decoder(pad_token_id=0, **untied), **longrope(512, 32)}, bf16),
        ("phi4-partial", qwen, (t.Phi3Config, t.Phi3ForCausalLM),
         {**decoder(pad_token_id=0, **tied), **longrope(256, 32, 0.75)}, f32),
        ("mixtral", spm, (t.MixtralConfig, t.MixtralForCausalLM), decoder(num_local_experts=8, **untied), f32),
        ("mixtral-4", spm, (t.MixtralConfig, t.MixtralForCausalLM),
         decoder(num_local_experts=4, num_experts_per_tok=3, **untied), bf16),
        ("qwen3moe", qwen, (t.Qwen3MoeConfig, t.Qwen3MoeForCausalLM),
         decoder(head_dim=64, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=256, norm_topk_prob=True,
                 **untied), f32),
        ("opt", qwen, (t.OPTConfig, t.OPTForCausalLM),
         dict(hidden_size=256, ffn_dim=512, num_hidden_layers=2, num_attention_heads=8, max_position_embeddings=1024,
              word_embed_proj_dim=256), {**f32, "other": "it has no OPT"}),
        ("bloom", bloom, (t.BloomConfig, t.BloomForCausalLM), dict(hidden_size=256, n_layer=2, n_head=8), f32),
        ("bloom-12", bloom, (t.BloomConfig, t.BloomForCausalLM), dict(hidden_size=384, n_layer=2, n_head=12), f32),
        ("gptneox", qwen, neox, {**neox_shape, "hidden_act": "gelu_fast"}, f32),
        ("gptneox-serial", qwen, neox, {**neox_shape, "hidden_act": "gelu_new", "use_parallel_residual": False,
                                        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                                            "partial_rotary_factor": 0.5}}, f32),
        ("gptneox-erf", qwen, neox, neox_shape, {**bf16, "other": "it takes the tanh form of GELU"}),
        ("gpt-oss", gpt4o, gpt_oss, {**gpt_oss_shape, **yarn_whole},
         {**f32, "other": "it rounds the ends of YaRN's ramp"}),
        ("gpt-oss-truncate", gpt4o, gpt_oss, {**gpt_oss_shape, **yarn}, bf16),
        ("deepseek2-lite", qwen, deepseek_v2,
         dict(latent, q_lora_rank=None, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2, **untied), f32),
        ("deepseek2-yarn", qwen, deepseek_v2,
         {**dict(latent, q_lora_rank=128, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2,
                 routed_scaling_factor=2.0, **untied), **yarn_scores}, f32),
        ("deepseek2-groups", qwen, deepseek_v2,
         dict(latent, q_lora_rank=128, n_routed_experts=12, num_experts_per_tok=3, n_shared_experts=1, n_group=4, topk_group=2,
              topk_method="group_limited_greedy", routed_scaling_factor=4.0, **untied),
         {**bf16, "other": "a group counts by its two best experts, in DeepSeek V2 by its best"}),
        ("deepseek3", qwen, deepseek_v3,
         dict(latent, q_lora_rank=128, n_routed_experts=16, num_experts_per_tok=4, n_shared_experts=1, n_group=4, topk_group=2,
              routed_scaling_factor=2.5, **untied), f32),
        ("deepseek3-yarn", qwen, deepseek_v3,
         {**dict(latent, q_lora_rank=128, n_routed_experts=16, num_experts_per_tok=4, n_shared_experts=2, n_group=1,
                 topk_group=1, norm_topk_prob=False, first_k_dense_replace=2, **untied),
          **rope("yarn", 40.0, original_max_position_embeddings=64, mscale=1.0, mscale_all_dim=1.0)}, bf16),
        ("gpt2", gpt2, gpt, dict(n_embd=256, n_layer=2, n_head=8, n_positions=1024), f32),
        ("gpt2-inner", gpt2, gpt, dict(n_embd=128, n_layer=2, n_head=2, n_positions=1024, n_inner=320), f32),
    ]


def randomize(model, generator):
    """Weights with gain ~1, norms around 1, biases that matter."""
    for name, b in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            b.copy_(0.1 * torch.randn(b.shape, generator=generator))
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1 and "Gemma" in type(model).__name__:
            p.data = 0.2 * noise
        elif p.dim() == 1:
            p.data = (1 + 0.2 * noise) if "norm" in name or "ln_" in name and "weight" in name else 0.2 * noise
        elif "embed" in name or "wte" in name or "wpe" in name or "embed_in" in name:
            p.data = (0.06 if "Gemma" in type(model).__name__ else 0.3) * noise  # Gemma multiplies them
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
    parser.add_argument("--only", help="names that contain one of these, separated by commas")
    arguments = parser.parse_args()
    out, data = arguments.out, pathlib.Path(arguments.data or "/nonexistent")
    out.mkdir(parents=True, exist_ok=True)
    text = topics_text(12_000)
    (out / "text.txt").write_text(text)

    spm_path, gpt2_path = data / "models/mini21m/tokenizer.model", data / "tokenizers/gpt2"
    spm = SentencePieceFiles(spm_path) if spm_path.exists() else None
    gpt2 = Gpt2Files(gpt2_path) if gpt2_path.exists() else None
    expected = {}
    for name, files, classes, config, saving in model_list(spm, gpt2, BpeFiles()):
        if arguments.only and not any(part in name for part in arguments.only.split(",")):
            continue
        if files is None:
            print(f"{name}: left out, its tokenizer is not in {data}")
            continue
        model = write_model(out, name, files, classes, config, saving)
        expected[name] = perplexity(model, files.encode(text), files.bos)
        if "other" in saving:
            expected[name]["llama.cpp"] = saving["other"]
        print(f"{name}: {expected[name]}")
    (out / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
