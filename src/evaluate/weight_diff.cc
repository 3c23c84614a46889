#include "evaluate/weight_diff.h"

#include <algorithm>
#include <cmath>
#include <span>
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
// A row is judged by the same cosine, a run of 32 by one that noise does not reach (4.5 standard errors of 1/√32): signs
// were turned. Rows and runs with hardly any weight are left out, and short rows.
constexpr double kOpposed = -0.8;
constexpr double kRowShare = 0.1;  // of the tensor's root mean square
constexpr uint64_t kShortRow = 64;
constexpr double kFloatError = 0.01;   // of a float type; BF16 rounding is 0.002

struct RowSums {
  double error = 0, base = 0, candidate = 0, product = 0;  // squares and the product of both
  uint64_t dead = 0, first_dead = UINT64_MAX;
  uint64_t opposed = 0, first_opposed = UINT64_MAX;
  double cosine() const {
    const double norms = std::sqrt(base * candidate);
    return norms > 0 ? product / norms : base == candidate ? 1 : 0;
  }
};

bool is_constant(const float* x, uint64_t n) {
  return std::all_of(x + 1, x + n, [&](float v) { return v == x[0]; });
}

RowSums sums_of(std::span<const float> base, std::span<const float> candidate) {
  RowSums s;
  for (size_t i = 0; i < base.size(); ++i) {
    const auto w = static_cast<double>(base[i]), q = static_cast<double>(candidate[i]);
    s.error += (q - w) * (q - w);
    s.base += w * w;
    s.candidate += q * q;
    s.product += q * w;
  }
  return s;
}

// group: length of the runs that may be dead; 0: do not look at runs.
RowSums compare_row(const std::vector<float>& base, const std::vector<float>& candidate, uint64_t group) {
  RowSums s = sums_of(base, candidate);
  if (group == 0) return s;
  const double least = kGroupShare * kGroupShare * s.base / static_cast<double>(base.size());
  for (size_t begin = 0; begin + group <= base.size(); begin += group) {
    if (!is_constant(candidate.data() + begin, group) || is_constant(base.data() + begin, group)) continue;
    const std::span<const float> run = std::span(base).subspan(begin, group);
    if (sums_of(run, run).base / static_cast<double>(group) < least) continue;
    if (s.dead++ == 0) s.first_dead = begin;
  }
  for (size_t begin = 0; begin + kOpposedRun <= base.size(); begin += kOpposedRun) {
    const RowSums run =
        sums_of(std::span(base).subspan(begin, kOpposedRun), std::span(candidate).subspan(begin, kOpposedRun));
    if (run.cosine() >= kOpposed || run.base / static_cast<double>(kOpposedRun) < least) continue;
    if (s.opposed++ == 0) s.first_opposed = begin;
  }
  return s;
}

// A row of the base after plain rounding to a type.
std::vector<float> rounded_row(std::span<const float> x, const TypeInfo& type) {
  std::vector<float> y(x.size());
  std::vector<std::byte> blocks(tensor_bytes(type, 1, x.size()));
  type.encode(x.data(), nullptr, blocks.data(), x.size());
  type.decode(blocks.data(), y.data(), y.size());
  return y;
}

std::vector<float> row_of(const ModelTensor& t, uint64_t row) {
  std::vector<float> x(t.n_cols());
  t.read_rows(row, 1, x.data());
  return x;
}

// "row 3 holds row 200 of the base's" when there is one that is far more like it than any other could be by chance.
std::string describe_foreign_row(const ModelTensor& base, const ModelTensor& candidate, uint64_t row) {
  const std::vector<float> q = row_of(candidate, row);
  uint64_t best = 0;
  double best_cosine = 0.8;
  for (uint64_t r = 0; r < base.n_rows(); ++r) {
    const double cosine = sums_of(row_of(base, r), q).cosine();
    if (cosine > best_cosine) std::tie(best_cosine, best) = std::pair(cosine, r);
  }
  return best_cosine > 0.8 ? fmt::format("row {} holds row {} of the base's", row, best) : fmt::format("row {}", row);
}

double relative(double error, double norm) { return norm > 0 ? std::sqrt(error / norm) : error > 0 ? INFINITY : 0; }

void expected_error(const ModelTensor& base, const ModelTensor& candidate, ThreadPool& pool, TensorDifference& d) {
  const TypeInfo& type = candidate.type();
  if (!type.is_quantized || !type.encode || base.n_cols() % type.block_len != 0) return;
  const uint64_t n = std::min(kSampledRows, base.n_rows());
  std::vector<double> plain(n), actual(n), norms(n);
  pool.parallel_for(n, [&](size_t i, int) {
    const uint64_t row = i * base.n_rows() / n;
    const std::vector<float> x = row_of(base, row), q = row_of(candidate, row);
    if (!std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); })) return;
    plain[i] = sums_of(x, rounded_row(x, type)).error;
    const RowSums s = sums_of(x, q);
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
    rows[r] = compare_row(row_of(base, r), row_of(candidate, r), d.group);
  });
  RowSums all;
  for (const RowSums& row : rows) {
    all.error += row.error;
    all.base += row.base;
    all.candidate += row.candidate;
    all.product += row.product;
  }
  const TypeInfo& type = candidate.type();
  const bool can_encode = type.encode && base.n_cols() % type.block_len == 0;
  // Of a row in which something was found: what plain rounding makes of it.
  std::vector<float> plain;
  const auto plain_too = [&](uint64_t r, const auto& is_so) {
    if (!can_encode) return false;
    plain = rounded_row(row_of(base, r), type);
    return is_so(plain);
  };
  const double least = kRowShare * kRowShare * all.base / static_cast<double>(rows.size());
  for (uint64_t r = 0; r < rows.size(); ++r) {
    const RowSums& row = rows[r];
    const double error = relative(row.error, row.base);
    if (error > d.worst_row_error) std::tie(d.worst_row_error, d.worst_row) = std::pair(error, r);
    const auto columns = [&](uint64_t first, uint64_t n) {
      return fmt::format("row {}, columns {} … {}", r, first, first + n - 1);
    };
    if (row.dead > 0 && !plain_too(r, [&](const auto& y) { return is_constant(y.data() + row.first_dead, d.group); })) {
      if (d.dead_groups == 0) d.first_dead = columns(row.first_dead, d.group);
      d.dead_groups += row.dead;
    }
    if (d.group == 0) continue;
    if (base.n_cols() >= kShortRow && row.base > least && row.cosine() < kUnlike &&
        !plain_too(r, [&](const auto& y) { return sums_of(row_of(base, r), y).cosine() < kUnlike; })) {
      if (d.foreign_rows == 0) d.first_foreign = describe_foreign_row(base, candidate, r);
      ++d.foreign_rows;
    } else if (row.opposed > 0 && !plain_too(r, [&](const auto& y) {
                 return compare_row(row_of(base, r), y, d.group).opposed > 0;
               })) {
      if (d.opposed_runs == 0) d.first_opposed = columns(row.first_opposed, kOpposedRun);
      d.opposed_runs += row.opposed;
    }
  }
  d.rel_error = relative(all.error, all.base);
  d.cosine = all.cosine();
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
    const double cosine = sums_of(w, q).cosine();
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
  const auto plural = [](uint64_t n, const char* one, const char* many) {
    return fmt::format("{} {}", n, n == 1 ? one : many);
  };
  if (d.foreign_rows > 0)
    return fmt::format("{} not the base's: {}", plural(d.foreign_rows, "row is", "rows are"), d.first_foreign);
  if (d.opposed_runs > 0)
    return fmt::format("{} of {} weights {} the other way than the base's; the first: {}",
                       plural(d.opposed_runs, "run", "runs"), kOpposedRun, d.opposed_runs == 1 ? "points" : "point",
                       d.first_opposed);
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
              {"dead_groups", d.dead_groups},
              {"foreign_rows", d.foreign_rows},
              {"opposed_runs", d.opposed_runs}};
    if (!d.finding.empty()) t["finding"] = d.finding;
    if (!d.finding.empty() && w.comparable) json["findings"].push_back({{"tensor", d.name}, {"finding", d.finding}});
    json["tensors"].push_back(std::move(t));
  }
  return json;
}

}  // namespace tsubu
