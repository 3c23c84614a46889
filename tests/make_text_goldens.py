#!/usr/bin/env python3
"""Makes tests/golden/text/: tiny tokenizers and the ids that SentencePiece and Hugging Face's tokenizers give with them.

    pip install sentencepiece tokenizers
    python3 tests/make_text_goldens.py tests/golden/text
"""
import io
import json
import pathlib
import sys

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = """
A miller had three sons, a mill, a donkey and a cat. The sons ground the corn, the donkey carried it to town, and the
cat caught the mice. When the miller died, the eldest son took the mill, the second the donkey, and the third was left
with the cat. "What am I to do with a cat?" he said. "I'd better have a pair of gloves made of its fur."
Das ist ein kurzer Text über Bäume, Flüsse und Straßen; er hat Umlaute und ein scharfes S. Größe: 12,5 km² (1999).
Voilà une phrase en français, où l'été et la forêt se répètent: l'été, la forêt, la fenêtre, l'hôtel.
吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。
Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.
def main(argv):
    for i in range(10):
        print(f"{i:>4} {i * i}")
    return 0
It's 3.14159 or 2718281828, they've said; we'll see. HTTP://example.org/a?b=c&d=e#f  x == y != z
""".strip()

TEXTS = [
    "", " ", "  ", "   ", "a", " a", "a ", "\n", "\n\n", "\t", " \n \n", "Hello world", " Hello world", "Hello  world",
    "The cat caught the mice.", "The miller's sons\nground the corn.\n\n\nEnd", "Das ist größer, STRASSE, ÄÖÜ",
    "l'été à l'hôtel", "吾輩は猫である。名前はまだ無い。", "несчастливая семья", "🦙🦙 emoji 👩‍👩‍👧 zwj", "ﬁ ligature ① ½ ｆｕｌｌ",
    "e\u0301 decomposed", "I'd they've WE'LL it's", "12345 1 12 123 1234 12345678901", "x == y != z && a->b",
    "    indented\n\tby tab", "tab\there", "a\u00a0b\u2003c\u3000d", "\u180eab", "<s>not special</s>", "<sep> a<sep>b <sep>",
    "▁literal▁", "<0x0A>", "\u0000nul", "end of text  ", "日本語 and English混ざる",
]


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def sentencepiece_golden(folder, name, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.split("\n")), model_writer=model, hard_vocab_limit=False, num_threads=1,
        minloglevel=2, **options)
    (folder / f"{name}.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    cases = [{"text": t, "ids": processor.encode(t)} for t in TEXTS]
    write(folder / f"{name}.json", {"version": sentencepiece.__version__, "n_tokens": len(processor), "cases": cases})


def tokenizer_golden(folder, name, tokenizer, special_text):
    tokenizer.save(str(folder / f"{name}.tokenizer.json"))
    cases = [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in TEXTS if "<s>" not in t]
    special = tokenizer.encode(special_text).ids
    write(folder / f"{name}.json", {"version": tokenizers.__version__, "n_tokens": tokenizer.get_vocab_size(), "cases": cases,
                                    "special": {"text": special_text, "ids": special}})


def byte_level(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                                   r"\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS.split("\n"), trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<sep>", normalized=False)])
    tokenizer_golden(folder, "byte_level", tokenizer, "<|im_start|>the cat<|im_end|>\n<sep>x")


def llama_like(folder):
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=560, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)])
    trained.train_from_iterator((line for line in CORPUS.split("\n")), trainer)
    spec = json.loads(trained.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer_golden(folder, "llama_like", tokenizer, "the cat</s>the mill")


def unigram(folder):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=250, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS.split("\n"), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer_golden(folder, "unigram", tokenizer, "the cat caught")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece_golden(folder, "spm_bpe", model_type="bpe", vocab_size=560, byte_fallback=True,
                         normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
                         allow_whitespace_only_pieces=True, user_defined_symbols=["<sep>"])
    sentencepiece_golden(folder, "spm_bpe_unknown", model_type="bpe", vocab_size=260, character_coverage=0.98,
                         normalization_rule_name="identity")
    rules = folder / "rules.tsv"
    rules.write_text("FB01\t66 69\n2460\t31\n65 301\tE9\nA0\t20\n")
    sentencepiece_golden(folder, "spm_unigram", model_type="unigram", vocab_size=240, normalization_rule_tsv=str(rules))
    rules.unlink()
    byte_level(folder)
    llama_like(folder)
    unigram(folder)


main()
