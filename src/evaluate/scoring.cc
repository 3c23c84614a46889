#include "evaluate/scoring.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "evaluate/remarks.h"
#include "kernel/kernels.h"

namespace tsubu {

NotFinite::NotFinite(uint64_t token)
    : Error(ExitCode::kNumeric, remark("runs.logits"_said, {std::to_string(token)}).text), position(token) {}

namespace {

double log_prob(const float* logits, double log_sum, TokenId id) { return static_cast<double>(logits[id]) - log_sum; }

TokenId argmax(const float* x, size_t n) { return static_cast<TokenId>(std::max_element(x, x + n) - x); }

TokenScore score_token(const float* candidate, const float* base, size_t n_vocab, TokenId next, uint64_t position) {
  TokenScore s;
  const double sum = kernels().log_sum_exp(candidate, n_vocab);
  if (!std::isfinite(sum)) throw NotFinite(position);
  s.nll = static_cast<float>(-log_prob(candidate, sum, next));
  if (!base) return s;
  const double base_sum = kernels().log_sum_exp(base, n_vocab);
  if (!std::isfinite(base_sum))
    fail(ExitCode::kNumeric, "logits of the base at token {} are not finite (log-sum-exp {})", position, base_sum);
  s.base_nll = static_cast<float>(-log_prob(base, base_sum, next));
  s.kld = static_cast<float>(kernels().kl_divergence(base, base_sum, candidate, sum, n_vocab));
  s.top = argmax(candidate, n_vocab);
  s.base_top = argmax(base, n_vocab);
  s.top_p = static_cast<float>(std::exp(log_prob(candidate, sum, s.top)));
  s.base_top_p = static_cast<float>(std::exp(log_prob(base, base_sum, s.base_top)));
  return s;
}

}  // namespace

ChunkProtocol chunk_protocol(EvalProtocol protocol, uint32_t context, const Vocabulary& vocabulary) {
  // llama.cpp's protocol scores what positions context/2 … context-2 predict; papers score every position.
  if (protocol == EvalProtocol::kPaper) return {context, 0, -1};
  return {context, context / 2, vocabulary.add_bos && vocabulary.bos >= 0 ? vocabulary.bos : -1};
}

std::vector<TokenId> chunk_input(std::span<const TokenId> tokens, uint64_t chunk, const ChunkProtocol& protocol) {
  const auto part = tokens.subspan(chunk * protocol.context, protocol.context);
  std::vector<TokenId> input(part.begin(), part.end());
  if (protocol.bos >= 0) input[0] = protocol.bos;
  return input;
}

std::vector<TokenScore> score_chunk(std::span<const float> logits, std::span<const float> base_logits,
                                    std::span<const TokenId> input, const ChunkProtocol& protocol, uint64_t position,
                                    ThreadPool& pool) {
  std::vector<TokenScore> scores(protocol.n_scored());
  const size_t n_vocab = logits.size() / scores.size();
  pool.parallel_for(scores.size(), [&](size_t i, int) {
    scores[i] =
        score_token(logits.data() + i * n_vocab, base_logits.empty() ? nullptr : base_logits.data() + i * n_vocab,
                    n_vocab, input[protocol.first + i + 1], position + i);
  });
  return scores;
}

BlockSums sums_of(std::span<const TokenScore> scores) {
  BlockSums sums;
  for (const TokenScore& s : scores) {
    sums.n += 1;
    sums.kld += static_cast<double>(s.kld);
    sums.top1 += s.top1_agrees() ? 1 : 0;
    sums.nll_difference += static_cast<double>(s.nll) - static_cast<double>(s.base_nll);
  }
  return sums;
}

PerplexityResult perplexity_of(std::span<const TokenScore> scores, float TokenScore::*nll) {
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

DivergenceResult divergence_of(std::span<const TokenScore> scores, std::span<const BlockSums> blocks,
                               uint32_t n_bootstrap, uint64_t seed) {
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
  d.mean = all.kld / all.n;
  d.top1_agreement = all.top1 / all.n;
  d.ln_ppl_ratio = all.nll_difference / all.n;
  d.mean_ci95 = mean_interval(blocks, n_bootstrap, seed, &BlockSums::kld);
  d.mean_ci95.low = std::max(d.mean_ci95.low, 0.0);
  d.top1_ci95 = mean_interval(blocks, n_bootstrap, seed, &BlockSums::top1);
  d.top1_ci95 = {std::max(d.top1_ci95.low, 0.0), std::min(d.top1_ci95.high, 1.0)};
  d.ln_ppl_ratio_ci95 = mean_interval(blocks, n_bootstrap, seed, &BlockSums::nll_difference);
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

Json to_json(const PerplexityResult& p) {
  return Json{{"mean", p.mean}, {"stderr", p.stderr_}, {"mean_nll", p.mean_nll}};
}

Json to_json(const Interval& interval) { return Json::array({interval.low, interval.high}); }

Json to_json(const DivergenceResult& d) {
  return {{"mean", d.mean},     {"ci95", to_json(d.mean_ci95)},
          {"median", d.median}, {"p90", d.p90},
          {"p95", d.p95},       {"p99", d.p99},
          {"p999", d.p999},     {"max", d.max}};
}

}  // namespace tsubu
