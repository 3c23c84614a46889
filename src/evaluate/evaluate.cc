#include "evaluate/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "evaluate/remarks.h"
#include "evaluate/scoring.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

uint32_t usable_context(const Model& candidate, const Model* base, uint32_t wanted) {
  uint32_t limit = candidate.hparams().n_ctx;
  if (base) limit = std::min(limit, base->hparams().n_ctx);
  if (limit == 0 || wanted <= limit) return wanted;
  note(fmt::format("context {} clipped to the model's own {}", wanted, limit));
  return limit;
}

}  // namespace

double mean_kl_divergence(std::span<const float> base, std::span<const float> candidate, size_t n_vocab,
                          ThreadPool& pool) {
  const Kernels& k = kernels();
  std::vector<double> rows(base.size() / n_vocab);
  pool.parallel_for(rows.size(), [&](size_t r, int) {
    const float *b = base.data() + r * n_vocab, *c = candidate.data() + r * n_vocab;
    rows[r] = k.kl_divergence(b, k.log_sum_exp(b, n_vocab), c, k.log_sum_exp(c, n_vocab), n_vocab);
  });
  double sum = 0;
  for (double v : rows) sum += v;
  return rows.empty() ? 0.0 : sum / static_cast<double>(rows.size());
}

namespace {

// As many tokens with f32 products as say what bfloat16 ones cost: a chunk of them would take longer than a short text.
constexpr size_t kNoiseTokens = 64;

// KL between f32 products and bfloat16 ones (of `engine`) at the first tokens of a chunk.
double noise_of_bf16(const Model& model, Engine& engine, Session& session, std::span<const TokenId> chunk, ThreadPool& pool) {
  const auto tokens = chunk.first(std::min(chunk.size(), kNoiseTokens));
  std::vector<float> exact(tokens.size() * engine.n_vocab()), rounded(exact.size());
  session.truncate(0);
  engine.forward(session, tokens, tokens.size(), rounded);
  const auto f32_engine = Engine::make(model, pool);
  const auto f32_session = f32_engine->new_session(tokens.size());
  f32_engine->forward(*f32_session, tokens, tokens.size(), exact);
  return mean_kl_divergence(exact, rounded, engine.n_vocab(), pool);
}

}  // namespace

EvalResult evaluate(const Model& candidate, const Model* base, std::span<const TokenId> tokens,
                    const EvalOptions& options, ThreadPool& pool) {
  if (base) check_same_vocabulary(candidate, *base);
  const uint32_t context = usable_context(candidate, base, options.context);
  if (context < 4) fail(ExitCode::kUsage, "a context of {} tokens is too short to score anything", context);
  uint64_t n_chunks = tokens.size() / context;
  if (options.max_chunks > 0) n_chunks = std::min<uint64_t>(n_chunks, options.max_chunks);
  if (n_chunks == 0)
    fail(ExitCode::kUsage, "the text has {} tokens, fewer than one chunk of {} (give more text or a smaller --ctx)",
         tokens.size(), context);

  EngineOptions engine_options;
  engine_options.act_int8 = engine_options.kv_f16 = options.act_int8;
  engine_options.numerics = options.numerics;
  engine_options.bf16_products = options.bf16_products;
  const auto engine = Engine::make(candidate, pool, engine_options);
  const auto session = engine->new_session(context);
  std::unique_ptr<Engine> base_engine;
  std::unique_ptr<Session> base_session;
  if (base) {
    EngineOptions base_options;
    base_options.act_int8 = base_options.kv_f16 = options.act_int8_base;
    base_options.bf16_products = options.bf16_products;
    base_engine = Engine::make(*base, pool, base_options);
    base_session = base_engine->new_session(context);
  }

  const ChunkProtocol protocol = chunk_protocol(options.protocol, context, candidate.vocabulary());
  const size_t n_scored = protocol.n_scored(), n_vocab = engine->n_vocab();
  std::vector<float> logits(n_scored * n_vocab), base_logits(base ? n_scored * n_vocab : 0);
  std::vector<TokenScore> scores;
  std::vector<BlockSums> blocks;
  double bf16_noise = 0;
  Progress progress("eval", n_chunks * context, "tokens");
  for (uint64_t chunk = 0; chunk < n_chunks; ++chunk) {
    throw_if_interrupted();
    const std::vector<TokenId> input = chunk_input(tokens, chunk, protocol);
    // The last token of a chunk is only predicted, so it need not run.
    const std::span<const TokenId> run(input.data(), context - 1);
    if (options.bf16_products && chunk == 0)
      bf16_noise = base ? noise_of_bf16(*base, *base_engine, *base_session, run, pool)
                        : noise_of_bf16(candidate, *engine, *session, run, pool);
    session->truncate(0);
    engine->forward(*session, run, n_scored, logits);
    if (base) {
      base_session->truncate(0);
      base_engine->forward(*base_session, run, n_scored, base_logits);
    }
    const std::vector<TokenScore> chunk_scores =
        score_chunk(logits, base_logits, input, protocol, chunk * context + protocol.first, pool);
    blocks.push_back(sums_of(chunk_scores));
    scores.insert(scores.end(), chunk_scores.begin(), chunk_scores.end());
    progress.advance(context);
  }
  progress.finish();

  EvalResult r;
  r.perplexity = perplexity_of(scores, &TokenScore::nll);
  r.has_base = base != nullptr;
  if (base) {
    r.base_perplexity = perplexity_of(scores, &TokenScore::base_nll);
    r.divergence = divergence_of(scores, blocks, options.n_bootstrap, options.seed);
  }
  r.n_tokens_scored = scores.size();
  r.n_tokens = n_chunks * context;
  r.n_chunks = static_cast<uint32_t>(n_chunks);
  r.context = context;
  r.bf16_noise = bf16_noise;
  r.kv_cache_bytes = session->size_bytes();
  r.quantized_bytes = engine->quantized_bytes();
  r.seconds = progress.seconds();
  r.tokens_per_second = static_cast<double>(r.n_tokens) / r.seconds;
  return r;
}

Json to_json(const EvalResult& r) {
  Json json;
  json["perplexity"] = to_json(r.perplexity);
  if (r.has_base) {
    const DivergenceResult& d = r.divergence;
    json["base_perplexity"] = to_json(r.base_perplexity);
    json["divergence"] = to_json(d);
    json["top1_agreement"] = d.top1_agreement;
    json["top1_agreement_ci95"] = to_json(d.top1_ci95);
    json["rms_delta_p"] = d.rms_delta_p;
    json["ln_ppl_ratio"] = d.ln_ppl_ratio;
    json["ln_ppl_ratio_ci95"] = to_json(d.ln_ppl_ratio_ci95);
  }
  json["tokens"] = r.n_tokens;
  json["tokens_scored"] = r.n_tokens_scored;
  json["chunks"] = r.n_chunks;
  json["context"] = r.context;
  json["kv_cache_bytes"] = r.kv_cache_bytes;
  if (r.quantized_bytes > 0) json["quantized_bytes"] = r.quantized_bytes;
  if (r.bf16_noise > 0) json["bf16_noise"] = r.bf16_noise;
  json["seconds"] = r.seconds;
  json["tokens_per_second"] = r.tokens_per_second;
  return json;
}

std::vector<Remark> protocol_of(const EvalResult& r, const EvalOptions& options) {
  const bool paper = options.protocol == EvalProtocol::kPaper;
  const auto n = [](uint64_t v) { return std::to_string(v); };
  std::vector<Remark> parts = {remark("protocol.name"_said, {paper ? "paper" : "llama.cpp"}),
                                  remark("protocol.chunks"_said, {n(r.n_chunks), n(r.context)}),
                                  paper ? remark("protocol.every_position"_said) : remark("protocol.second_half"_said),
                                  remark("protocol.scored"_said, {n(r.n_tokens_scored)})};
  if (options.act_int8)
    parts.push_back(remark("protocol.activations_8"_said));
  else
    parts.push_back(remark("protocol.activations"_said, {options.numerics.activations ? options.numerics.activations->name() : "f32"}));
  if (options.bf16_products) parts.push_back(remark("protocol.bf16_noise"_said, {fmt::format("{:.2g}", r.bf16_noise),
                                                          std::to_string(std::min<size_t>(r.context - 1, kNoiseTokens))}));
  if (options.numerics.any()) parts.push_back(remark("protocol.numerics"_said, {options.numerics.description()}));
  if (r.has_base) {
    parts.push_back(options.act_int8_base ? remark("protocol.base_8"_said) : remark("protocol.base"_said));
    parts.push_back(remark("protocol.intervals"_said, {n(options.n_bootstrap), n(options.seed)}));
  }
  return parts;
}

}  // namespace tsubu
