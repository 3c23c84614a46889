#include "calibrate/corpus.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"

namespace tsubu {
namespace {

uint32_t usable_context(const Model& model, uint32_t wanted) {
  const uint32_t limit = model.hparams().n_ctx;
  if (limit == 0 || wanted <= limit) return wanted;
  note(fmt::format("context {} instead of {}: {} has no more", limit, wanted, model.path()));
  return limit;
}

std::string hash_of(const Corpus& corpus) {
  std::string digests = std::to_string(corpus.context);
  for (const auto& chunk : corpus.chunks) digests += hash_bytes(std::as_bytes(std::span(chunk)));
  return hash_bytes(std::as_bytes(std::span(digests)));
}

}  // namespace

CorpusText parse_corpus_text(std::string_view argument) {
  const std::string whole(argument);
  const size_t colon = whole.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(whole)) return {whole, 1};
  double weight = 0;
  const char *begin = whole.data() + colon + 1, *end = whole.data() + whole.size();
  const auto [stop, error] = std::from_chars(begin, end, weight);
  if (error != std::errc() || stop != end || !std::isfinite(weight) || weight <= 0)
    fail(ExitCode::kUsage, "--text {}: expected FILE or FILE:WEIGHT with a weight above 0, found the weight '{}'",
         whole, whole.substr(colon + 1));
  return {whole.substr(0, colon), weight};
}

std::vector<uint32_t> share_chunks(const std::vector<uint32_t>& available, const std::vector<double>& weights,
                                   uint32_t limit) {
  const size_t n = available.size();
  const uint64_t total = std::accumulate(available.begin(), available.end(), uint64_t{0});
  const bool equal = std::adjacent_find(weights.begin(), weights.end(), std::not_equal_to<>()) == weights.end();
  if (limit == 0 && equal) return available;
  uint64_t wanted = std::min<uint64_t>(limit, total);
  if (limit == 0) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    double most = static_cast<double>(total);
    for (size_t i = 0; i < n; ++i) most = std::min(most, available[i] * sum / weights[i]);
    wanted = std::max<uint64_t>(1, static_cast<uint64_t>(most + 1e-9));
  }
  std::vector<uint32_t> shares(n, 0);
  // One round each time some text is used up; otherwise the first round gives everything.
  while (wanted > 0) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += shares[i] < available[i] ? weights[i] : 0;
    std::vector<double> rest(n, -1);
    uint64_t given = 0;
    const auto give = [&](size_t i, uint64_t amount) {
      const auto fitting = static_cast<uint32_t>(std::min<uint64_t>(amount, available[i] - shares[i]));
      shares[i] += fitting;
      given += fitting;
    };
    for (size_t i = 0; i < n; ++i) {
      if (shares[i] == available[i]) continue;
      const double share = static_cast<double>(wanted) * weights[i] / sum;
      rest[i] = share - std::floor(share);
      give(i, static_cast<uint64_t>(share));
    }
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rest[a] > rest[b]; });
    for (size_t i : order)
      if (given < wanted && rest[i] >= 0 && shares[i] < available[i]) give(i, 1);
    wanted -= given;
  }
  return shares;
}

Corpus read_corpus(const Model& model, const CorpusOptions& options) {
  if (options.texts.empty()) fail(ExitCode::kUsage, "calibration needs text: add --text FILE");
  Corpus corpus;
  corpus.context = usable_context(model, options.context);
  if (corpus.context < 2) fail(ExitCode::kUsage, "chunks of {} tokens: expected at least 2", corpus.context);
  const auto tokenizer = model.make_tokenizer();
  const Vocabulary& vocabulary = model.vocabulary();
  const bool starts_with_bos = vocabulary.add_bos && vocabulary.bos >= 0;
  std::vector<std::vector<TokenId>> tokens;
  std::vector<uint32_t> available;
  std::vector<double> weights;
  for (const CorpusText& text : options.texts) {
    throw_if_interrupted();
    const std::string bytes = read_text_file(text.path);
    tokens.push_back(tokenizer->encode(bytes));
    const uint64_t n_chunks = tokens.back().size() / corpus.context;
    if (n_chunks == 0)
      fail(ExitCode::kUsage, "{}: {} tokens are fewer than one chunk of {}: give a longer text or a smaller --ctx",
           text.path, tokens.back().size(), corpus.context);
    available.push_back(static_cast<uint32_t>(std::min<uint64_t>(n_chunks, UINT32_MAX)));
    weights.push_back(text.weight);
    corpus.sources.push_back(
        {text.path, hash_bytes(std::as_bytes(std::span(bytes))), bytes.size(), tokens.back().size(), text.weight, 0});
  }
  const std::vector<uint32_t> shares = share_chunks(available, weights, options.max_chunks);
  for (size_t i = 0; i < tokens.size(); ++i) {
    corpus.sources[i].n_chunks = shares[i];
    for (uint64_t c = 0; c < shares[i]; ++c) {
      const auto begin = tokens[i].begin() + static_cast<ptrdiff_t>(c * corpus.context);
      auto& chunk = corpus.chunks.emplace_back(begin, begin + corpus.context);
      if (starts_with_bos) chunk[0] = vocabulary.bos;
    }
  }
  corpus.hash = hash_of(corpus);
  return corpus;
}

Json to_json(const CorpusSource& s) {
  return {{"path", s.path},       {"hash", s.hash},     {"bytes", s.n_bytes},
          {"tokens", s.n_tokens}, {"weight", s.weight}, {"chunks", s.n_chunks}};
}

}  // namespace tsubu
