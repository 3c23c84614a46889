#!/usr/bin/env python3
"""Tokens that PEFT's LoRA learns in a processor second on transformers, for bench/results.   lora_peft.py MODEL [THREADS]

Rank 16 on all linears, float32, windows of 256 tokens, eight to a step, AdamW: what `tsubu tune MODEL --lora r=16,alpha=32,targets=all
--ctx 256 --step-tokens 2048` does. The first step of each form is not counted."""
import sys
import time

import peft
import torch
import transformers

torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
torch.manual_seed(1)
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
ids = torch.randint(5, model.config.vocab_size, (8, 256))
for name, batch in [("one window at a time", 1), ("eight at once", 8)]:
    for counted in (False, True):
        start = time.process_time()
        for some in ids.split(batch):
            model(input_ids=some, labels=some).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if counted:
            print(f"{name}: {ids.numel() / (time.process_time() - start):.0f} tokens a processor second")
