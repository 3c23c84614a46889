#include "pipeline/transformed.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "engine/engine.h"
#include "evaluate/evaluate.h"
#include "round/sim_round.h"

namespace tsubu {
namespace {

constexpr uint64_t kTokens = 8192;
constexpr size_t kFormatRows = 96;
constexpr size_t kPeriod = 8;             // of so many windows the last is one that judges
constexpr size_t kCompared = 256;         // tokens on which the two float models are compared
constexpr double kMostDivergence = 1e-4;  // nats; folding in double leaves 1e-9, one wrong fold far more than this

std::vector<float> logits_of(const Model& model, const std::vector<TokenId>& tokens, ThreadPool& pool) {
  const auto engine = Engine::make(model, pool);
  const auto session = engine->new_session(tokens.size());
  std::vector<float> logits(tokens.size() * engine->n_vocab());
  engine->forward(*session, tokens, tokens.size(), logits);
  return logits;
}

// Mean KL divergence of the transformed model from the original.
double own_divergence(const Model& model, const Model& transformed, std::vector<TokenId> tokens, ThreadPool& pool) {
  tokens.resize(std::min(tokens.size(), kCompared));
  const std::vector<float> a = logits_of(model, tokens, pool), b = logits_of(transformed, tokens, pool);
  return mean_kl_divergence(a, b, a.size() / tokens.size(), pool);
}

}  // namespace

Corpus transform_corpus(const Corpus& corpus) {
  const size_t n = corpus.chunks.size();
  const bool holds_out = n >= 2 * kPeriod;
  std::vector<size_t> learned;
  for (size_t c = 0; c < n; ++c)
    if (!holds_out || c % kPeriod != kPeriod - 1) learned.push_back(c);
  const size_t wanted = std::min<size_t>(learned.size(), std::max<uint64_t>(1, kTokens / corpus.context));
  Corpus some = corpus;
  some.chunks.clear();
  for (size_t i = 0; i < wanted; ++i) some.chunks.push_back(corpus.chunks[learned[i * learned.size() / wanted]]);
  return some;
}

TransformedModel transform_for_rounding(const Model& model, const TransformRequest& request, const Corpus* corpus,
                                        const AwqOptions& awq, const std::string& output, bool shapes_only,
                                        ThreadPool& pool) {
  std::vector<std::string> names;
  for (const Transform& t : transforms()) {
    if (std::find(request.names.begin(), request.names.end(), t.name) == request.names.end()) continue;
    if (!t.keeps_function)
      fail(ExitCode::kUsage,
           "--transform {}: it changes what the model computes and is a part of rounding by search: use tsubu "
           "transform --{}, then quantize",
           t.name, t.name);
    if (t.needs_activations && !corpus)
      fail(ExitCode::kUsage, "--transform {}: looks at activations: add --text FILE", t.name);
    if (!shapes_only || !t.needs_activations) names.emplace_back(t.name);
  }
  TransformedModel result;
  result.treatment = {{"names", request.names}};
  if (names.empty()) {  // a dry run: nothing that changes shapes
    result.model = std::make_unique<EditableModel>(model);
    return result;
  }
  TransformOptions options;
  options.awq = awq;
  options.smoothquant_alpha = request.alpha;
  options.seed = request.seed;
  if (!shapes_only) {
    const auto folder = std::filesystem::path(output).parent_path();
    options.folder = folder.empty() ? "." : folder.string();
  }
  std::optional<Corpus> some;
  if (corpus) {
    some = transform_corpus(*corpus);
    options.source.corpus = &*some;
  }
  TransformResult transformed = apply_transforms(model, names, options, pool);
  result.model = std::move(transformed.model);
  result.reports = std::move(transformed.reports);
  for (const TransformReport& report : result.reports)
    for (const std::string& line : report.notes) result.notes.push_back(fmt::format("{}: {}", report.name, line));
  if (corpus && !shapes_only) {
    const double divergence = own_divergence(model, *result.model, some->chunks.front(), pool);
    if (!(divergence < kMostDivergence))
      fail(ExitCode::kNumeric,
           "{}: the transformed float model diverges from the original by {:.3g} nats, where a fold leaves less than "
           "{:g}: its "
           "activations or weights have no room for it (leave --transform out)",
           model.path(), divergence, kMostDivergence);
    result.notes.push_back(fmt::format("{}: the float model itself diverges from the original by {:.2g} nats",
                                       fmt::join(names, " + "), divergence));
  }
  for (const Transform& t : transforms())
    if (std::find(names.begin(), names.end(), t.name) != names.end()) {
      if (t.needs_activations) result.treatment["tokens"] = some->n_tokens();
      if (t.name.starts_with("rotate-")) result.treatment["seed"] = request.seed;
      if (t.name == "smoothquant" && request.alpha) result.treatment["alpha"] = *request.alpha;
    }
  return result;
}

AwqOptions awq_for_formats(std::function<const SimFormat*(const std::string& name)> format_of, bool importance) {
  AwqOptions awq;
  awq.importance = importance;
  awq.max_rows = kFormatRows;
  awq.rounding_of = [format_of = std::move(format_of)](const std::string& name) -> RowRounding {
    const SimFormat* format = format_of(name);
    if (!format) return {};
    return [format](const float* rows, size_t n_rows, size_t n_cols, std::span<const float> weights, float* out,
                    ThreadPool& pool) {
      sim_round(rows, n_rows, n_cols, *format, {SimStart::kSearch, 0}, weights, nullptr, out, pool);
    };
  };
  return awq;
}

Json to_json(const std::vector<TransformReport>& reports) {
  Json json = Json::array();
  for (const TransformReport& report : reports) json.push_back(to_json(report));
  return json;
}

}  // namespace tsubu
