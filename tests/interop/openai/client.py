#!/usr/bin/env python3
"""The official Python package against a running server: client.py URL MODEL"""
import asyncio
import sys

import openai

url, model = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key="key")
failed = 0


def check(ok, what):
    global failed
    if not ok:
        failed += 1
        print("FAILED:", what, file=sys.stderr)


messages = [{"role": "user", "content": "Once upon a time"}]
check(any(m.id == model for m in client.models.list().data) and client.models.retrieve(model).id == model, "models")
chat = client.chat.completions.create(model=model, messages=messages, max_tokens=20, seed=1, logprobs=True, top_logprobs=2)
check(chat.choices[0].message.content and len(chat.choices[0].logprobs.content) == chat.usage.completion_tokens, "chat")
check(len(chat.choices[0].logprobs.content[0].top_logprobs) == 2, "top_logprobs")
parts = list(client.chat.completions.create(model=model, messages=messages, max_tokens=20, seed=1, stream=True, stream_options={"include_usage": True}))
check("".join(p.choices[0].delta.content or "" for p in parts if p.choices) == chat.choices[0].message.content, "a stream is the same text")
check(parts[-1].usage.completion_tokens == chat.usage.completion_tokens, "usage of a stream")
with client.chat.completions.stream(model=model, messages=messages, max_tokens=20, seed=1) as stream:
    stream.until_done()
    check(stream.current_completion_snapshot.choices[0].message.content == chat.choices[0].message.content, "chat.completions.stream")
plain = client.completions.create(model=model, prompt=["Once", "The dog"], max_tokens=5, n=2, logprobs=1, stop=["\n"])
check(len(plain.choices) == 4 and plain.choices[0].logprobs.tokens, "completions")
raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, max_tokens=2)
check(raw.status_code == 200 and raw.parse().choices, "raw response")
for error, parameters in ((openai.NotFoundError, dict(model="another", messages=messages)), (openai.BadRequestError, dict(model=model, messages=messages, temperature=9)),
                          (openai.BadRequestError, dict(model=model, messages=[]))):
    try:
        client.chat.completions.create(**parameters)
        check(False, error)
    except error as e:
        check(e.body["message"], "an error says why")
try:
    openai.OpenAI(base_url=url, api_key="wrong").models.list()
    check(False, "a wrong key")
except openai.AuthenticationError:
    pass


async def many():
    async with openai.AsyncOpenAI(base_url=url, api_key="key") as c:
        replies = await asyncio.gather(*(c.chat.completions.create(model=model, messages=messages, max_tokens=20, seed=1) for _ in range(24)))
        check({r.choices[0].message.content for r in replies} == {chat.choices[0].message.content}, "24 at once are one text")


asyncio.run(many())
print(f"{failed} failed" if failed else f"openai {openai.__version__} (Python): passed")
sys.exit(1 if failed else 0)
