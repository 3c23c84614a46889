#include "evaluate/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "evaluate/statistics.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr uint32_t kPaperContext = 2048;

double log_prob(const float* logits, double log_sum, TokenId id) { return static_cast<double>(logits[id]) - log_sum; }

size_t argmax(const float* x, size_t n) { return static_cast<size_t>(std::max_element(x, x + n) - x); }

// KL(base ‖ candidate) in nats over the whole vocabulary, from f32 logits, in double.
double kl_divergence(const float* base, double base_sum, const float* candidate, double candidate_sum, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const double lb = static_cast<double>(base[i]) - base_sum;
    if (lb < -60) continue;  // e^-60 times any difference f32 logits can have is below the rounding of the sum
    sum += std::exp(lb) * (lb - (static_cast<double>(candidate[i]) - candidate_sum));
  }
  return std::max(sum, 0.0);
}

PerplexityResult perplexity_of(const std::vector<TokenScore>& scores, float TokenScore::*nll) {
  double sum = 0, squares = 0;
  for (const TokenScore& s : scores) {
    const auto v = static_cast<double>(s.*nll);
    sum += v;
    squares += v * v;
  }
  const auto n = static_cast<double>(scores.size());
  PerplexityResult r;
  r.mean_nll = sum / n;
  r.mean = std::exp(r.mean_nll);
  const double variance = squares / n - r.mean_nll * r.mean_nll;
  if (n > 1 && variance > 0) r.stderr_ = r.mean * std::sqrt(variance / (n - 1));
  return r;
}

DivergenceResult divergence_of(const std::vector<TokenScore>& scores, std::span<const BlockSums> blocks,
                               const EvalOptions& options) {
  DivergenceResult d;
  std::vector<float> klds;
  double squares = 0;
  BlockSums all;
  for (const BlockSums& b : blocks) {
    all.n += b.n;
    all.kld += b.kld;
    all.top1 += b.top1;
    all.nll_difference += b.nll_difference;
  }
  for (const TokenScore& s : scores) {
    klds.push_back(s.kld);
    const double delta = std::exp(-static_cast<double>(s.nll)) - std::exp(-static_cast<double>(s.base_nll));
    squares += delta * delta;
  }
  std::sort(klds.begin(), klds.end());
  d.median = quantile(klds, 0.5);
  d.p90 = quantile(klds, 0.9);
  d.p95 = quantile(klds, 0.95);
  d.p99 = quantile(klds, 0.99);
  d.p999 = quantile(klds, 0.999);
  d.max = static_cast<double>(klds.back());
  d.rms_delta_p = std::sqrt(squares / static_cast<double>(scores.size()));
  const auto kld = [](const BlockSums& s) { return s.kld / s.n; };
  const auto top1 = [](const BlockSums& s) { return s.top1 / s.n; };
  const auto ratio = [](const BlockSums& s) { return s.nll_difference / s.n; };
  d.mean = kld(all);
  d.top1_agreement = top1(all);
  d.ln_ppl_ratio = ratio(all);
  d.mean_ci95 = block_bootstrap(blocks, options.n_bootstrap, options.seed, kld);
  d.top1_ci95 = block_bootstrap(blocks, options.n_bootstrap, options.seed, top1);
  d.ln_ppl_ratio_ci95 = block_bootstrap(blocks, options.n_bootstrap, options.seed, ratio);
  return d;
}

void check_same_vocabulary(const Model& candidate, const Model& base) {
  const auto &a = candidate.vocabulary().tokens, &b = base.vocabulary().tokens;
  if (candidate.hparams().n_vocab != base.hparams().n_vocab)
    fail(ExitCode::kBadInput, "{} has {} tokens, its base {} has {}: divergence needs one vocabulary", candidate.path(),
         candidate.hparams().n_vocab, base.path(), base.hparams().n_vocab);
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    if (a[i] != b[i])
      fail(ExitCode::kBadInput, "token {} is '{}' in {} and '{}' in its base {}: divergence needs one vocabulary", i,
           a[i], candidate.path(), b[i], base.path());
}

uint32_t usable_context(const Model& candidate, const Model* base, uint32_t wanted) {
  uint32_t limit = candidate.hparams().n_ctx;
  if (base) limit = std::min(limit, base->hparams().n_ctx);
  if (limit == 0 || wanted <= limit) return wanted;
  note(fmt::format("context {} clipped to the model's own {}", wanted, limit));
  return limit;
}

}  // namespace

TokenScore score_token(const float* candidate, const float* base, size_t n_vocab, TokenId next, uint64_t position) {
  TokenScore s;
  const double sum = kernels().log_sum_exp(candidate, n_vocab);
  if (!std::isfinite(sum))
    fail(ExitCode::kNumeric, "logits at token {} are not finite (log-sum-exp {}): the model is damaged", position, sum);
  s.nll = static_cast<float>(-log_prob(candidate, sum, next));
  if (!base) return s;
  const double base_sum = kernels().log_sum_exp(base, n_vocab);
  if (!std::isfinite(base_sum))
    fail(ExitCode::kNumeric, "logits of the base at token {} are not finite (log-sum-exp {})", position, base_sum);
  s.base_nll = static_cast<float>(-log_prob(base, base_sum, next));
  s.kld = static_cast<float>(kl_divergence(base, base_sum, candidate, sum, n_vocab));
  s.top1_agrees = argmax(candidate, n_vocab) == argmax(base, n_vocab);
  return s;
}

double mean_kl_divergence(std::span<const float> base, std::span<const float> candidate, size_t n_vocab,
                          ThreadPool& pool) {
  std::vector<double> rows(base.size() / n_vocab);
  pool.parallel_for(rows.size(), [&](size_t r, int) {
    const float *b = base.data() + r * n_vocab, *c = candidate.data() + r * n_vocab;
    rows[r] = kl_divergence(b, kernels().log_sum_exp(b, n_vocab), c, kernels().log_sum_exp(c, n_vocab), n_vocab);
  });
  double sum = 0;
  for (double v : rows) sum += v;
  return rows.empty() ? 0.0 : sum / static_cast<double>(rows.size());
}

EvalResult evaluate(const Model& candidate, const Model* base, std::span<const TokenId> tokens,
                    const EvalOptions& options, ThreadPool& pool) {
  if (base) check_same_vocabulary(candidate, *base);
  const bool paper = options.protocol == EvalProtocol::kPaper;
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
  const auto engine = Engine::make(candidate, pool, engine_options);
  const auto session = engine->new_session(context);
  std::unique_ptr<Engine> base_engine;
  std::unique_ptr<Session> base_session;
  if (base) {
    EngineOptions base_options;
    base_options.act_int8 = base_options.kv_f16 = options.act_int8_base;
    base_engine = Engine::make(*base, pool, base_options);
    base_session = base_engine->new_session(context);
  }

  // llama.cpp's protocol scores what positions context/2 … context-2 predict; papers score every position.
  const size_t first = paper ? 0 : context / 2, n_scored = context - 1 - first, n_vocab = engine->n_vocab();
  const Vocabulary& vocabulary = candidate.vocabulary();
  const bool starts_with_bos = !paper && vocabulary.add_bos && vocabulary.bos >= 0;
  std::vector<float> logits(n_scored * n_vocab), base_logits(base ? n_scored * n_vocab : 0);
  std::vector<TokenScore> scores;
  std::vector<BlockSums> blocks;
  Progress progress("eval", n_chunks * context, "tokens");
  for (uint64_t chunk = 0; chunk < n_chunks; ++chunk) {
    throw_if_interrupted();
    std::vector<TokenId> input(tokens.begin() + static_cast<ptrdiff_t>(chunk * context),
                               tokens.begin() + static_cast<ptrdiff_t>((chunk + 1) * context));
    if (starts_with_bos) input[0] = vocabulary.bos;
    // The last token of a chunk is only predicted, so it need not run.
    const std::span<const TokenId> run(input.data(), context - 1);
    session->truncate(0);
    engine->forward(*session, run, n_scored, logits);
    if (base) {
      base_session->truncate(0);
      base_engine->forward(*base_session, run, n_scored, base_logits);
    }
    std::vector<TokenScore> chunk_scores(n_scored);
    pool.parallel_for(n_scored, [&](size_t i, int) {
      chunk_scores[i] = score_token(logits.data() + i * n_vocab, base ? base_logits.data() + i * n_vocab : nullptr,
                                    n_vocab, input[first + i + 1], chunk * context + first + i);
    });
    BlockSums sums;
    for (const TokenScore& s : chunk_scores) {
      sums.n += 1;
      sums.kld += static_cast<double>(s.kld);
      sums.top1 += s.top1_agrees ? 1 : 0;
      sums.nll_difference += static_cast<double>(s.nll) - static_cast<double>(s.base_nll);
    }
    blocks.push_back(sums);
    scores.insert(scores.end(), chunk_scores.begin(), chunk_scores.end());
    progress.advance(context);
  }
  progress.finish();

  EvalResult r;
  r.perplexity = perplexity_of(scores, &TokenScore::nll);
  r.has_base = base != nullptr;
  if (base) {
    r.base_perplexity = perplexity_of(scores, &TokenScore::base_nll);
    r.divergence = divergence_of(scores, blocks, options);
  }
  r.n_tokens_scored = scores.size();
  r.n_tokens = n_chunks * context;
  r.n_chunks = static_cast<uint32_t>(n_chunks);
  r.context = context;
  r.kv_cache_bytes = session->size_bytes();
  r.quantized_bytes = engine->quantized_bytes();
  r.seconds = progress.seconds();
  r.tokens_per_second = static_cast<double>(r.n_tokens) / r.seconds;
  return r;
}

Json to_json(const EvalResult& r) {
  const auto perplexity = [](const PerplexityResult& p) {
    return Json{{"mean", p.mean}, {"stderr", p.stderr_}, {"mean_nll", p.mean_nll}};
  };
  const auto interval = [](const Interval& i) { return Json::array({i.low, i.high}); };
  Json json;
  json["perplexity"] = perplexity(r.perplexity);
  if (r.has_base) {
    const DivergenceResult& d = r.divergence;
    json["base_perplexity"] = perplexity(r.base_perplexity);
    json["divergence"] = {{"mean", d.mean},     {"ci95", interval(d.mean_ci95)},
                          {"median", d.median}, {"p90", d.p90},
                          {"p95", d.p95},       {"p99", d.p99},
                          {"p999", d.p999},     {"max", d.max}};
    json["top1_agreement"] = d.top1_agreement;
    json["top1_agreement_ci95"] = interval(d.top1_ci95);
    json["rms_delta_p"] = d.rms_delta_p;
    json["ln_ppl_ratio"] = d.ln_ppl_ratio;
    json["ln_ppl_ratio_ci95"] = interval(d.ln_ppl_ratio_ci95);
  }
  json["tokens"] = r.n_tokens;
  json["tokens_scored"] = r.n_tokens_scored;
  json["chunks"] = r.n_chunks;
  json["context"] = r.context;
  json["kv_cache_bytes"] = r.kv_cache_bytes;
  if (r.quantized_bytes > 0) json["quantized_bytes"] = r.quantized_bytes;
  json["seconds"] = r.seconds;
  json["tokens_per_second"] = r.tokens_per_second;
  return json;
}

std::string protocol_line(const EvalResult& r, const EvalOptions& options) {
  const bool paper = options.protocol == EvalProtocol::kPaper;
  const std::string activations = options.act_int8               ? "rounded to 8 bits"
                                  : options.numerics.activations ? options.numerics.activations->name()
                                                                 : "f32";
  std::string line = fmt::format(
      "protocol {}: {} chunks of {} tokens, {}, {} tokens scored; activations {}", paper ? "paper" : "llama.cpp",
      r.n_chunks, r.context,
      paper ? "every position scored" : "BOS at each chunk where the vocabulary adds it, second half scored",
      r.n_tokens_scored, activations);
  if (options.numerics.any()) line += "; computed in: " + options.numerics.description();
  if (r.has_base)
    line += fmt::format(
        "; base: activations {}, logits f32 in the same run; intervals: block bootstrap over chunks, {} resamples, "
        "seed {}",
        options.act_int8_base ? "rounded to 8 bits" : "f32", options.n_bootstrap, options.seed);
  return line;
}

}  // namespace tsubu
