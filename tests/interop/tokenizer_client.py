#!/usr/bin/env python3
"""The bundled model's tokenizer: tsubu and the `sentencepiece` package give the same ids for its texts, line by line, and
for texts that are hard.   tokenizer_client.py TSUBU MODEL_DIR"""
import json
import pathlib
import subprocess
import sys

import sentencepiece

N_LINES = 300
HARD = ["", " ", "  two  spaces ", "\n\n\t\n", "don't I'VE", "ｆｕｌｌ　width", "é e\u0301 ﬁ", "粒と粒", "🌾👩‍👩‍👧", "a\u200bb", "\ufeffx",
        "3.14159 1,000,000", "</s><s><unk>", "\x00\x01\x7f", "x" * 500, "ا\u0651ل", "\r\n", "▁▁x", "<0x41>"]

tsubu, model = sys.argv[1], pathlib.Path(sys.argv[2])
reference = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
lines = [line for line in (model / "heldout.txt").read_text().splitlines() if line][:N_LINES]
passed, failed = 0, 0
for text in HARD + lines:
    done = subprocess.run([tsubu, "tokenize", str(model), "--stdin", "--no-special", "--json"], input=text.encode(),
                          capture_output=True, check=True)
    ours = [token["id"] for token in json.loads(done.stdout)["tokens"]]
    theirs = reference.encode(text)
    passed += ours == theirs
    if ours != theirs:
        failed += 1
        print(f"{text[:60]!r}: {ours[:20]} here, {theirs[:20]} by sentencepiece")
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
