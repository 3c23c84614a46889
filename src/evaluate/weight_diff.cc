#include "evaluate/weight_diff.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {
namespace {

// Weights of a run that may be dead: the smallest part with a scale of its own (Q6_K, Q3_K, Q2_K); formats of two bits
// and less round longer runs to one value in good health.
constexpr uint64_t kGroup = 16, kLongGroup = 64;
constexpr double kFewBits = 2.6;
constexpr double kGroupShare =
    0.5;  // of its row's root mean square: a run of the base below it may well round to one value
constexpr uint64_t kSampledRows = 16;  // for the error that is to be expected
constexpr double kForeign = 0.5;       // cosine below which a tensor is not the base's
// Times the expected error. Rounding towards the float model's outputs (error feedback, residual targets) moves weights
// further than plain rounding does: up to 4.6 times was seen in a Q2_K file that is better than a plain one.
constexpr double kSuspicious = 10;
constexpr double kUnlike = 0.2;  // cosine below which a tensor that is no other tensor of the base is not its own either
constexpr double kFloatError = 0.01;   // of a float type; BF16 rounding is 0.002

struct RowSums {
  double error = 0, base = 0, candidate = 0, product = 0;  // squares and the product of both
  uint64_t dead = 0, first_dead = UINT64_MAX;
};

bool is_constant(const float* x, uint64_t n) {
  return std::all_of(x + 1, x + n, [&](float v) { return v == x[0]; });
}

// group: length of the runs that may be dead; 0: do not look.
RowSums compare_row(const std::vector<float>& base, const std::vector<float>& candidate, uint64_t group) {
  RowSums s;
  for (size_t i = 0; i < base.size(); ++i) {
    const auto w = static_cast<double>(base[i]), q = static_cast<double>(candidate[i]);
    s.error += (q - w) * (q - w);
    s.base += w * w;
    s.candidate += q * q;
    s.product += q * w;
  }
  if (group == 0) return s;
  const double row_mean_square = s.base / static_cast<double>(base.size());
  for (size_t begin = 0; begin + group <= base.size(); begin += group) {
    if (!is_constant(candidate.data() + begin, group) || is_constant(base.data() + begin, group)) continue;
    double square = 0;
    for (size_t i = begin; i < begin + group; ++i)
      square += static_cast<double>(base[i]) * static_cast<double>(base[i]);
    if (square / static_cast<double>(group) < kGroupShare * kGroupShare * row_mean_square) continue;
    if (s.dead++ == 0) s.first_dead = begin;
  }
  return s;
}

// Whether plain rounding of the base's run to the candidate's type gives one single value as well.
bool plain_rounding_kills(const ModelTensor& base, const TypeInfo& type, uint64_t row, uint64_t column,
                          uint64_t group) {
  std::vector<float> x(base.n_cols()), y(base.n_cols());
  base.read_rows(row, 1, x.data());
  std::vector<std::byte> blocks(tensor_bytes(type, 1, base.n_cols()));
  type.encode(x.data(), nullptr, blocks.data(), x.size());
  type.decode(blocks.data(), y.data(), y.size());
  return is_constant(y.data() + column, group);
}

double relative(double error, double norm) { return norm > 0 ? std::sqrt(error / norm) : error > 0 ? INFINITY : 0; }

void expected_error(const ModelTensor& base, const ModelTensor& candidate, ThreadPool& pool, TensorDifference& d) {
  const TypeInfo& type = candidate.type();
  if (!type.is_quantized || !type.encode || base.n_cols() % type.block_len != 0) return;
  const uint64_t n = std::min(kSampledRows, base.n_rows());
  std::vector<double> plain(n), actual(n), norms(n);
  pool.parallel_for(n, [&](size_t i, int) {
    const uint64_t row = i * base.n_rows() / n;
    std::vector<float> x(base.n_cols()), y(base.n_cols()), q(base.n_cols());
    base.read_rows(row, 1, x.data());
    candidate.read_rows(row, 1, q.data());
    std::vector<std::byte> blocks(tensor_bytes(type, 1, base.n_cols()));
    if (!std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); })) return;
    type.encode(x.data(), nullptr, blocks.data(), x.size());
    type.decode(blocks.data(), y.data(), y.size());
    plain[i] = compare_row(x, y, 0).error;
    const RowSums s = compare_row(x, q, 0);
    actual[i] = s.error;
    norms[i] = s.base;
  });
  double p = 0, a = 0, norm = 0;
  for (size_t i = 0; i < n; ++i) {
    p += plain[i];
    a += actual[i];
    norm += norms[i];
  }
  d.expected = relative(p, norm);
  d.same_rows = relative(a, norm);
}

TensorDifference compare_tensor(const ModelTensor& base, const ModelTensor& candidate, ThreadPool& pool) {
  TensorDifference d;
  d.name = base.name();
  d.type = candidate.type().name;
  d.base_type = base.type().name;
  d.group = base.spec().shape.size() < 2 ? 0 : candidate.type().bits_per_weight() < kFewBits ? kLongGroup : kGroup;
  std::vector<RowSums> rows(base.n_rows());
  pool.parallel_for(rows.size(), [&](size_t r, int) {
    std::vector<float> w(base.n_cols()), q(base.n_cols());
    base.read_rows(r, 1, w.data());
    candidate.read_rows(r, 1, q.data());
    rows[r] = compare_row(w, q, d.group);
  });
  RowSums all;
  const TypeInfo& type = candidate.type();
  const bool can_encode = type.encode && base.n_cols() % type.block_len == 0;
  for (uint64_t r = 0; r < rows.size(); ++r) {
    all.error += rows[r].error;
    all.base += rows[r].base;
    all.candidate += rows[r].candidate;
    all.product += rows[r].product;
    const double error = relative(rows[r].error, rows[r].base);
    if (error > d.worst_row_error) std::tie(d.worst_row_error, d.worst_row) = std::pair(error, r);
    if (rows[r].dead == 0 || (can_encode && plain_rounding_kills(base, type, r, rows[r].first_dead, d.group))) continue;
    if (d.dead_groups == 0)
      d.first_dead = fmt::format("row {}, columns {} … {}", r, rows[r].first_dead, rows[r].first_dead + d.group - 1);
    d.dead_groups += rows[r].dead;
  }
  d.rel_error = relative(all.error, all.base);
  const double norms = std::sqrt(all.base * all.candidate);
  d.cosine = norms > 0 ? all.product / norms : all.base == all.candidate ? 1 : 0;
  if (d.rel_error > 0) expected_error(base, candidate, pool, d);
  return d;
}

// The base's tensor of the same shape whose first rows are most like the candidate's; empty when none is.
std::string find_original(const Model& base, const ModelTensor& candidate) {
  const uint64_t n = std::min<uint64_t>(4, candidate.n_rows());
  std::vector<float> q(n * candidate.n_cols()), w(q.size());
  candidate.read_rows(0, n, q.data());
  std::string best;
  double best_cosine = 0.8;
  for (const ModelTensor& t : base.tensors()) {
    if (t.spec().shape != candidate.spec().shape) continue;
    t.read_rows(0, n, w.data());
    const RowSums s = compare_row(w, q, 0);
    const double norms = std::sqrt(s.base * s.candidate), cosine = norms > 0 ? s.product / norms : 0;
    if (cosine > best_cosine) std::tie(best_cosine, best) = std::pair(cosine, t.name());
  }
  return best;
}

std::string finding_of(const TensorDifference& d) {
  if (!std::isfinite(d.rel_error)) return "values that are not finite";
  if (d.cosine < kForeign && !d.looks_like.empty()) return fmt::format("holds {} of the base", d.looks_like);
  if (d.cosine < kUnlike) return fmt::format("is not the base's tensor (cosine {:.3f})", d.cosine);
  if (d.dead_groups > 0)
    return fmt::format("{} runs of {} weights are one single value where the base's are not; the first: {}",
                       d.dead_groups, d.group, d.first_dead);
  if (d.expected > 0 && std::max(d.rel_error, d.same_rows) > kSuspicious * d.expected)
    return fmt::format("error {:.3g}, {:.1f} times that of plain rounding to {}; worst row {}", d.rel_error,
                       d.rel_error / d.expected, d.type, d.worst_row);
  if (d.expected == 0 && find_type(d.type) && !find_type(d.type)->is_quantized && d.rel_error > kFloatError)
    return fmt::format("error {:.3g} in a tensor of floats; worst row {}", d.rel_error, d.worst_row);
  return "";
}

// What changes the computation besides the weights: the architecture's own metadata keys.
std::vector<std::string> compare_configuration(const Model& base, const Model& candidate) {
  std::vector<std::string> found;
  const std::string architecture = base.hparams().architecture;
  if (architecture != candidate.hparams().architecture) {
    found.push_back(
        fmt::format("architecture: {} in the base, {} here", architecture, candidate.hparams().architecture));
    return found;
  }
  const Hparams &b = base.hparams(), &c = candidate.hparams();
  const auto check = [&](const char* name, double x, double y) {
    if (std::abs(x - y) > 1e-6 * std::abs(x))
      found.push_back(fmt::format("{}: {:g} in the base, {:g} here", name, x, y));
  };
  check("rope base", b.rope_base, c.rope_base);
  check("rope dimensions", b.rope_dims, c.rope_dims);
  check("rope scaling factor", b.rope_scaling.factor, c.rope_scaling.factor);
  if (b.rope_scaling.kind != c.rope_scaling.kind)
    found.push_back(fmt::format("rope scaling: '{}' in the base, '{}' here", b.rope_scaling.kind, c.rope_scaling.kind));
  check("epsilon of the norms", b.norm_eps, c.norm_eps);
  check("layers", b.n_layers, c.n_layers);
  check("heads", b.n_heads, c.n_heads);
  check("key and value heads", b.n_kv_heads, c.n_kv_heads);
  check("head dimension", b.head_dim, c.head_dim);
  check("sliding window", b.sliding_window, c.sliding_window);
  const Vocabulary &v = base.vocabulary(), &w = candidate.vocabulary();
  check("BOS token", v.bos, w.bos);
  check("BOS added", v.add_bos, w.add_bos);
  check("EOS token", v.eos, w.eos);
  return found;
}

}  // namespace

uint32_t WeightDifferences::n_findings() const {
  if (!comparable) return 0;
  return static_cast<uint32_t>(
      std::count_if(tensors.begin(), tensors.end(), [](const TensorDifference& d) { return !d.finding.empty(); }));
}

WeightDifferences compare_weights(const Model& base, const Model& candidate, ThreadPool& pool) {
  WeightDifferences result;
  result.configuration = compare_configuration(base, candidate);
  if (const GgufValue* done = candidate.gguf_metadata().find("tsubu.transform")) {
    result.comparable = false;
    result.reason = "the candidate's weights were transformed:";
    if (const GgufArray* names = done->as_array())
      for (const std::string& name : names->strings) result.reason += " " + name;
  }
  Progress progress("weights", base.weight_bytes(), "B");
  for (const ModelTensor& t : base.tensors()) {
    throw_if_interrupted();
    progress.advance(t.size_bytes());
    const ModelTensor* other = candidate.find(t.name());
    if (!other && t.name() == "output.weight") continue;  // a tied head: the embedding serves
    if (!other || other->spec().shape != t.spec().shape) {
      TensorDifference d;
      d.name = t.name();
      d.base_type = t.type().name;
      d.finding = other ? "has another shape than the base's" : "is missing";
      if (t.spec().optional && !other) d.finding.clear();
      if (!d.finding.empty()) result.tensors.push_back(d);
      continue;
    }
    TensorDifference d = compare_tensor(t, *other, pool);
    if (d.cosine < kForeign) d.looks_like = find_original(base, *other);
    d.finding = finding_of(d);
    result.tensors.push_back(std::move(d));
  }
  progress.finish();
  const auto key = [](const TensorDifference& d) { return std::isnan(d.rel_error) ? INFINITY : d.rel_error; };
  std::stable_sort(result.tensors.begin(), result.tensors.end(),
                   [&](const TensorDifference& a, const TensorDifference& b) { return key(a) > key(b); });
  return result;
}

Json to_json(const WeightDifferences& w) {
  Json json = {{"comparable", w.comparable}};
  if (!w.comparable) json["reason"] = w.reason;
  json["configuration"] = w.configuration;
  json["findings"] = Json::array();
  json["tensors"] = Json::array();
  for (const TensorDifference& d : w.tensors) {
    Json t = {{"name", d.name},
              {"type", d.type},
              {"base_type", d.base_type},
              {"rel_error", d.rel_error},
              {"expected", d.expected},
              {"cosine", d.cosine},
              {"worst_row", d.worst_row},
              {"worst_row_error", d.worst_row_error},
              {"dead_groups", d.dead_groups}};
    if (!d.finding.empty()) t["finding"] = d.finding;
    if (!d.finding.empty() && w.comparable) json["findings"].push_back({{"tensor", d.name}, {"finding", d.finding}});
    json["tensors"].push_back(std::move(t));
  }
  return json;
}

}  // namespace tsubu
