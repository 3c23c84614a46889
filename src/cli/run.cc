// tsubu run: continues a text, printing characters as they are complete.
#include <chrono>
#include <memory>

#include "base/progress.h"
#include "cli/adapter_options.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"
#include "text/utf8_stream.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "hub/model.h"

namespace tsubu {
namespace {

constexpr size_t kPenaltyWindow = 64;   // tokens the repeat penalty looks back
constexpr size_t kDefaultContext = 4096;  // when a model does not say how long its context is

struct Options {
  std::vector<std::string> adapters;
  std::string model, prompt;
  size_t n_tokens = 128;
  bool greedy = false, parse_special = false, act_int8 = false, act_f32 = false;
  SamplerOptions sampler;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double rate(size_t n, double seconds) { return seconds > 0 ? static_cast<double>(n) / seconds : 0; }

ExitCode run(const Options& o, const CommonOptions& common) {
  using Clock = std::chrono::steady_clock;
  const auto model = open_adapted(o.model, o.adapters);
  const auto tokenizer = model->make_tokenizer();
  const std::vector<TokenId> prompt = tokenizer->encode(o.prompt, true, o.parse_special);
  const size_t context = model->hparams().n_ctx > 0 ? model->hparams().n_ctx : kDefaultContext;
  if (prompt.empty()) fail(ExitCode::kUsage, "run: the prompt has no tokens: give some text with -p");
  if (prompt.size() >= context)
    fail(ExitCode::kUsage, "run: the prompt has {} tokens, the model's context holds {}: give a shorter one", prompt.size(),
         context);

  ThreadPool pool(common.threads);
  EngineOptions engine_options;
  engine_options.act_int8 = !o.act_f32;
  const auto engine = Engine::make(*model, pool, engine_options);
  const auto session = engine->new_session(std::min(context, prompt.size() + o.n_tokens));
  std::vector<float> logits(engine->n_vocab());

  const auto prefill_start = Clock::now();
  engine->forward(*session, prompt, 1, logits);
  const double prefill_seconds = seconds_since(prefill_start);

  SamplerOptions sampler_options = o.sampler;
  if (o.greedy) sampler_options.temperature = 0;
  Sampler sampler(sampler_options);
  std::vector<TokenId> history = prompt;
  std::vector<TokenId> generated;
  Utf8Stream stream;
  std::string text;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (common.json) return;
    print_out(piece);
    flush_out();
  };

  std::string stop = "length";
  const auto decode_start = Clock::now();
  while (generated.size() < o.n_tokens) {
    throw_if_interrupted();
    const size_t window = std::min(history.size(), kPenaltyWindow);
    const TokenId next = sampler.pick(logits, std::span(history).last(window));
    if (tokenizer->is_end_of_generation(next)) {
      stop = "end";
      break;
    }
    generated.push_back(next);
    history.push_back(next);
    emit(stream.feed(tokenizer->piece(next, false)));
    if (generated.size() == o.n_tokens) break;
    if (session->n_past() == session->capacity()) {
      stop = "context";
      break;
    }
    engine->forward(*session, std::span(&next, 1), 1, logits);
  }
  emit(stream.finish());
  const double decode_seconds = seconds_since(decode_start);
  const double prefill_rate = rate(prompt.size(), prefill_seconds), decode_rate = rate(generated.size(), decode_seconds);

  if (common.json) {
    Json json;
    json["model"] = o.model;
    json["text"] = text;
    json["tokens"] = generated;
    json["n_prompt_tokens"] = prompt.size();
    json["stop"] = stop;
    json["prefill"]["tokens_per_second"] = prefill_rate;
    json["decode"]["tokens_per_second"] = decode_rate;
    print_json(json);
    return ExitCode::kDone;
  }
  print_out("\n");
  flush_out();
  note(fmt::format("prompt: {} tokens, {}; generated: {} tokens, {}; stopped by {}", prompt.size(),
                   format_rate(prefill_rate), generated.size(), format_rate(decode_rate), stop));
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  declare_adapters(app, o->adapters);
  app.add_option("-p,--prompt", o->prompt, "Text to continue")->required()->type_name("TEXT");
  app.add_option("-n,--tokens", o->n_tokens, "Tokens to generate at most (default 128)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app.add_option("--temp", o->sampler.temperature, "Temperature; 0 is greedy (default 0.8)")
      ->check(number_between(0.0, 100.0))
      ->type_name("X");
  app.add_option("--top-k", o->sampler.top_k, "Only the K likeliest tokens; 0: all (default 40)")
      ->check(CLI::Range(0, 1 << 30))
      ->type_name("K");
  app.add_option("--top-p", o->sampler.top_p, "Only the likeliest tokens that make up this probability (default 0.95)")
      ->check(number_between(0.0, 1.0))
      ->type_name("P");
  app.add_option("--repeat-penalty", o->sampler.repeat_penalty, "Against tokens of the last 64; 1: none (default 1)")
      ->check(number_between(0.01, 100.0))
      ->type_name("X");
  app.add_option("--seed", o->sampler.seed, "Same seed, same text (default 1)")->check(CLI::NonNegativeNumber)->type_name("N");
  app.add_flag("--greedy", o->greedy, "Always the likeliest token");
  app.add_flag("--parse-special", o->parse_special, "Control tokens written out in the prompt become their ids");
  auto* int8 = app.add_flag("--act-int8", o->act_int8, "8-bit activations as on llama.cpp's CPU path (default)");
  app.add_flag("--act-f32", o->act_f32, "Activations in f32, as eval measures")->excludes(int8);
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kRunCommand;
const Command kRunCommand = {"run", "MODEL -p TEXT", "Continue a text",
                             "tsubu run model.gguf -p \"Once upon a time\" -n 64 --seed 7", declare};

}  // namespace tsubu
