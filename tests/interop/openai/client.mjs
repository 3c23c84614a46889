// The official npm package against a running server: client.mjs URL MODEL
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "key" });
let failed = 0;
const check = (ok, what) => { if (!ok) { failed++; console.error("FAILED: " + what); } };

const messages = [{ role: "user", content: "Once upon a time" }];
const models = await client.models.list();
check(models.data.some(m => m.id === model), "models.list");
check((await client.models.retrieve(model)).id === model, "models.retrieve");
const chat = await client.chat.completions.create({ model, messages, max_tokens: 20, seed: 1, logprobs: true, top_logprobs: 2 });
check(chat.choices[0].message.content.length > 0 && chat.choices[0].logprobs.content.length === chat.usage.completion_tokens, "chat");
let text = "", usage = null;
for await (const part of await client.chat.completions.create({ model, messages, max_tokens: 20, seed: 1, stream: true, stream_options: { include_usage: true } })) {
  text += part.choices[0]?.delta?.content ?? "";
  usage = part.usage ?? usage;
}
check(text === chat.choices[0].message.content, "a stream is the same text");
check(usage?.completion_tokens === chat.usage.completion_tokens, "usage of a stream");
const stream = client.chat.completions.stream({ model, messages, max_tokens: 20, seed: 1 });
check((await stream.finalContent()) === text, "chat.completions.stream");
const plain = await client.completions.create({ model, prompt: ["Once", "The dog"], max_tokens: 5, n: 2, logprobs: 1 });
check(plain.choices.length === 4 && plain.choices[0].logprobs.tokens.length > 0, "completions");
const aborted = await client.chat.completions.create({ model, messages, max_tokens: 200, stream: true });
for await (const part of aborted) { aborted.controller.abort(); }
for (const [parameters, status] of [[{ model: "another", messages }, 404], [{ model, messages, temperature: 9 }, 400], [{ model, messages: [] }, 400]]) {
  try {
    await client.chat.completions.create(parameters);
    check(false, "an error " + status);
  } catch (e) {
    check(e instanceof OpenAI.APIError && e.status === status, `an error ${status}: ${e}`);
  }
}
try {
  await new OpenAI({ baseURL, apiKey: "wrong" }).models.list();
  check(false, "a wrong key");
} catch (e) {
  check(e instanceof OpenAI.AuthenticationError, `a wrong key: ${e}`);
}
console.log(failed ? `${failed} failed` : "openai (npm): passed");
process.exit(failed ? 1 : 0);
