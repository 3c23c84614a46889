#include "evaluate/weight_diff.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "checkpoint/layout.h"
#include "codec/grid.h"
#include "evaluate/remarks.h"
#include "evaluate/statistics.h"

namespace tsubu {
namespace {

// Weights of a run that may be dead: the smallest part with a scale of its own (Q6_K, Q3_K, Q2_K); formats of two bits
// and less round longer runs to one value in good health, and with calibration text any but a whole block of a scale.
constexpr uint64_t kGroup = 16, kLongGroup = 64;
constexpr double kFewBits = 2.6;

// What a candidate's tensor is stored as: a type of GGUF, or a matrix of a Hugging Face layout.
class Format {
 public:
  explicit Format(const ModelTensor& t) : first_(t.n_matrices() > 1 ? t.matrix(0) : t), type_(&t.type()), matrix_(first_.quantized()) {}
  std::string name() const { return matrix_ ? matrix_->kind() : std::string(type_->name); }
  bool is_float() const { return !matrix_ && !type_->is_quantized; }
  double bits() const {
    return matrix_ ? 8.0 * static_cast<double>(matrix_->size_bytes()) / static_cast<double>(matrix_->n_rows() * matrix_->n_cols())
                   : type_->bits_per_weight();
  }
  bool has_few_bits() const { return bits() < kFewBits; }
  uint64_t dead_group() const {
    if (!has_few_bits()) return kGroup;
    return type_->grid && !type_->grid->spec.has_scales() ? type_->block_len : kLongGroup;
  }
  bool can_round(uint64_t n_cols) const { return matrix_ ? n_cols == matrix_->n_cols() : type_->encode && n_cols % type_->block_len == 0; }
  // A row of the base after plain rounding: as the type encodes it; in a layout to the nearest levels, the largest value of
  // each group (with zero points: both ends) on the outermost one.
  std::vector<float> rounded(std::span<const float> x) const;

 private:
  std::vector<float> rounded_to_levels(std::span<const float> x) const;
  ModelTensor first_;  // of a stack: its first matrix
  const TypeInfo* type_;
  const QuantMatrix* matrix_;
};

constexpr double kGroupShare =
    0.5;  // of its row's root mean square: a run of the base below it may well round to one value
constexpr uint64_t kSampledRows = 16;  // for the error that is to be expected
constexpr double kForeign = 0.5;       // cosine below which a tensor is not the base's
// Times the expected error. Rounding towards the float model's outputs (error feedback, residual targets) moves weights
// further than plain rounding does: up to 4.6 times was seen in a Q2_K file that is better than a plain one. In files of one
// and two bits the tensors of more bits make up for the others (a Q6_K head by 21 times plain rounding's error), so an error
// is also one only when it is beyond that of most tensors.
constexpr double kSuspicious = 10;
// Cosine beyond which it is another row, or another tensor by its first rows: far more than any is by chance, and less than
// a row of signs has with its own.
constexpr double kAlikeRows = 0.5, kAlikeTensors = 0.4;
constexpr double kUnlike = 0.2;  // cosine below which a tensor that is no other tensor of the base is not its own either
// A row is judged by the same cosine, a run of 32 by one that noise does not reach (4.5 standard errors of 1/√32): signs
// were turned. Rows and runs with hardly any weight are left out, and short rows.
constexpr double kOpposed = -0.8;
// The scale of a run, ⟨ŵ, w⟩ / ⟨w, w⟩, is about that of the other runs, the more exactly the more bits the type has. A run is
// scaled otherwise when it is off by this much, and by so many times what 99 of 100 runs of its tensor stay below, in types
// down to kFewBits, below it, and of signs alone: half as far again as the farthest run of sound files of every type went
// (docs/decisions/certify.md has the distributions, and what is found so).
constexpr double kScaleOff = 0.25, kSigns = 1.5;
double scale_factor(double bits) { return bits >= kFewBits ? 4 : bits >= kSigns ? 5 : 10; }
constexpr double kScaleExcused = 0.5;  // share of a run's deviation that plain rounding has too: the type cannot do better
constexpr size_t kEnoughRuns = 100;
constexpr double kRowShare = 0.1;  // of the tensor's root mean square
constexpr uint64_t kShortRow = 64;
constexpr uint64_t kOriginsSought = 8;  // rows of a tensor for which the base's is sought
constexpr double kFloatError = 0.01;   // of a float type; BF16 rounding is 0.002

struct RowSums {
  double error = 0, base = 0, candidate = 0, product = 0;  // squares and the product of both
  uint64_t dead = 0, first_dead = UINT64_MAX;
  uint64_t opposed = 0, first_opposed = UINT64_MAX;
  double least_run_cosine = 1;
  std::vector<float> scales;  // of the runs; NaN: hardly any weight
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
    const bool is_thin = run.base / static_cast<double>(kOpposedRun) < least;
    s.scales.push_back(is_thin || run.base == 0 ? NAN : static_cast<float>(run.product / run.base));
    if (is_thin) continue;
    s.least_run_cosine = std::min(s.least_run_cosine, run.cosine());
    if (run.cosine() >= kOpposed) continue;
    if (s.opposed++ == 0) s.first_opposed = begin;
  }
  return s;
}

std::vector<float> Format::rounded(std::span<const float> x) const {
  if (matrix_) return rounded_to_levels(x);
  std::vector<float> y(x.size());
  std::vector<std::byte> blocks(tensor_bytes(*type_, 1, x.size()));
  type_->encode(x.data(), nullptr, blocks.data(), x.size());
  type_->decode(blocks.data(), y.data(), y.size());
  return y;
}

std::vector<float> Format::rounded_to_levels(std::span<const float> x) const {
  std::vector<float> levels(matrix_->levels().begin(), matrix_->levels().begin() + (ptrdiff_t{1} << matrix_->code_bits()));
  std::erase_if(levels, [](float v) { return !std::isfinite(v); });
  std::sort(levels.begin(), levels.end());
  const auto group_of = [&](size_t column) {
    return matrix_->group_of_column().empty() ? column / matrix_->group_columns() : matrix_->group_of_column()[column];
  };
  std::vector<float> low(matrix_->n_groups(), 0.0f), high(matrix_->n_groups(), 0.0f), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t g = group_of(i);
    low[g] = std::min(low[g], x[i]);
    high[g] = std::max(high[g], x[i]);
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t g = group_of(i);
    const float scale = matrix_->has_zeros() ? (high[g] - low[g]) / (levels.back() - levels.front())
                        : levels.front() < 0 ? std::max(high[g] / levels.back(), low[g] / levels.front())
                                             : high[g] / levels.back();
    if (!(scale > 0)) continue;
    const float zero = matrix_->has_zeros() ? levels.back() - high[g] / scale : 0;
    const float at = x[i] / scale + zero;
    auto next = std::lower_bound(levels.begin(), levels.end(), at);
    if (next == levels.end() || (next != levels.begin() && at - *(next - 1) < *next - at)) --next;
    y[i] = (*next - zero) * scale;
  }
  return y;
}

std::vector<float> row_of(const ModelTensor& t, uint64_t row) {
  std::vector<float> x(t.n_cols());
  t.read_rows(row, 1, x.data());
  return x;
}

// The base's row that a row of the candidate holds: far more like it than any other could be by chance.
std::optional<uint64_t> origin_of(const ModelTensor& base, const ModelTensor& candidate, uint64_t row) {
  const std::vector<float> q = row_of(candidate, row);
  std::optional<uint64_t> best;
  double best_cosine = kAlikeRows;
  for (uint64_t r = 0; r < base.n_rows(); ++r) {
    const double cosine = sums_of(row_of(base, r), q).cosine();
    if (cosine > best_cosine) std::tie(best_cosine, best) = std::pair(cosine, r);
  }
  return best;
}

double relative(double error, double norm) { return norm > 0 ? std::sqrt(error / norm) : error > 0 ? INFINITY : 0; }

void expected_error(const ModelTensor& base, const ModelTensor& candidate, const Format& format, ThreadPool& pool, TensorDifference& d) {
  if (format.is_float() || !format.can_round(base.n_cols())) return;
  const uint64_t n = std::min(kSampledRows, base.n_rows());
  std::vector<double> plain(n), actual(n), norms(n);
  pool.parallel_for(n, [&](size_t i, int) {
    const uint64_t row = i * base.n_rows() / n;
    const std::vector<float> x = row_of(base, row), q = row_of(candidate, row);
    if (!std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); })) return;
    plain[i] = sums_of(x, format.rounded(x)).error;
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

// Finds runs whose scale is far from those of the others; rows are those of compare_row.
void find_scaled_runs(const ModelTensor& base, const Format& format, std::span<const RowSums> rows, TensorDifference& d) {
  std::vector<float> scales;
  for (const RowSums& row : rows)
    for (const float s : row.scales)
      if (!std::isnan(s)) scales.push_back(s);
  if (scales.size() < kEnoughRuns || !format.can_round(base.n_cols())) return;
  std::sort(scales.begin(), scales.end());
  const float middle = scales[scales.size() / 2];
  std::vector<float> off;
  for (const float s : scales) off.push_back(std::abs(s - middle));
  std::sort(off.begin(), off.end());
  d.scale_middle = static_cast<double>(middle);
  d.scale_spread = static_cast<double>(quantile(off, 0.99));
  d.scale_farthest = static_cast<double>(off.back());
  const double limit = std::max(kScaleOff, scale_factor(format.bits()) * d.scale_spread);
  if (d.scale_farthest <= limit) return;
  for (uint64_t r = 0; r < rows.size(); ++r) {
    std::vector<float> x, plain;
    for (size_t run = 0; run < rows[r].scales.size(); ++run) {
      const float s = rows[r].scales[run];
      if (std::isnan(s) || static_cast<double>(std::abs(s - middle)) <= limit) continue;
      if (x.empty()) x = row_of(base, r), plain = format.rounded(x);
      const auto part = [&](const std::vector<float>& v) { return std::span(v).subspan(run * kOpposedRun, kOpposedRun); };
      const RowSums sums = sums_of(part(x), part(plain));
      const double deviation = static_cast<double>(s - middle), excused = sums.product / sums.base - static_cast<double>(middle);
      if (excused / deviation >= kScaleExcused) continue;
      if (d.scaled_runs++ == 0) {
        d.scaled_row = r;
        d.scaled_column = run * kOpposedRun;
        d.scaled_by = static_cast<double>(s);
      }
    }
  }
}

TensorDifference compare_tensor(const ModelTensor& base, const ModelTensor& candidate, ThreadPool& pool) {
  TensorDifference d;
  d.name = base.name();
  const Format format(candidate);
  d.type = format.name();
  d.base_type = Format(base).name();
  d.group = base.spec().shape.size() < 2 ? 0 : format.dead_group();
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
  // Of a row in which something was found: what plain rounding makes of it.
  std::vector<float> plain;
  const auto plain_too = [&](uint64_t r, const auto& is_so) {
    if (!format.can_round(base.n_cols())) return false;
    plain = format.rounded(row_of(base, r));
    return is_so(plain);
  };
  const double least = kRowShare * kRowShare * all.base / static_cast<double>(rows.size());
  for (uint64_t r = 0; r < rows.size(); ++r) {
    const RowSums& row = rows[r];
    const double error = relative(row.error, row.base);
    if (error > d.worst_row_error) std::tie(d.worst_row_error, d.worst_row) = std::pair(error, r);
    if (row.dead > 0 && !plain_too(r, [&](const auto& y) { return is_constant(y.data() + row.first_dead, d.group); })) {
      if (d.dead_groups == 0) std::tie(d.dead_row, d.dead_column) = std::pair(r, row.first_dead);
      d.dead_groups += row.dead;
    }
    if (d.group == 0) continue;
    const bool is_judged = base.n_cols() >= kShortRow && row.base > least;
    if (is_judged) d.least_row_cosine = std::min(d.least_row_cosine, row.cosine());
    d.least_run_cosine = std::min(d.least_run_cosine, row.least_run_cosine);
    if (is_judged && row.cosine() < kUnlike &&
        !plain_too(r, [&](const auto& y) { return sums_of(row_of(base, r), y).cosine() < kUnlike; })) {
      const std::optional<uint64_t> origin = d.foreign_origin || d.foreign_rows > kOriginsSought ? std::nullopt : origin_of(base, candidate, r);
      // In a sound file of one bit a row may be as far from its own: only another row's weights tell.
      if (!origin && !d.foreign_origin && format.has_few_bits()) continue;
      if (d.foreign_rows == 0) d.foreign_row = r;
      if (origin && !d.foreign_origin) std::tie(d.foreign_row, d.foreign_origin) = std::pair(r, origin);
      ++d.foreign_rows;
    } else if (row.opposed > 0 && !plain_too(r, [&](const auto& y) {
                 return compare_row(row_of(base, r), y, d.group).opposed > 0;
               })) {
      if (d.opposed_runs == 0) std::tie(d.opposed_row, d.opposed_column) = std::pair(r, row.first_opposed);
      d.opposed_runs += row.opposed;
    }
  }
  d.rel_error = relative(all.error, all.base);
  d.cosine = all.cosine();
  if (d.foreign_rows == 0 && d.cosine >= kForeign) find_scaled_runs(base, format, rows, d);
  d.is_float = format.is_float();
  if (d.rel_error > 0) expected_error(base, candidate, format, pool, d);
  return d;
}

// The base's tensor of the same shape whose first rows are most like the candidate's; empty when none is.
std::string find_original(const Model& base, const ModelTensor& candidate) {
  const uint64_t n = std::min<uint64_t>(4, candidate.n_rows());
  std::vector<float> q(n * candidate.n_cols()), w(q.size());
  candidate.read_rows(0, n, q.data());
  std::string best;
  double best_cosine = kAlikeTensors;
  for (const ModelTensor& t : base.tensors()) {
    if (t.spec().shape != candidate.spec().shape) continue;
    t.read_rows(0, n, w.data());
    const double cosine = sums_of(w, q).cosine();
    if (cosine > best_cosine) std::tie(best_cosine, best) = std::pair(cosine, t.name());
  }
  return best;
}

std::string text_of(uint64_t n) { return std::to_string(n); }

Remark foreign_rows(const TensorDifference& d) {
  const std::string n = text_of(d.foreign_rows), row = text_of(d.foreign_row);
  if (d.foreign_origin) {
    const std::string origin = text_of(*d.foreign_origin);
    return d.foreign_rows == 1 ? remark("weights.row.holds"_said, {row, origin}) : remark("weights.rows.holds"_said, {n, row, origin});
  }
  return d.foreign_rows == 1 ? remark("weights.row"_said, {row}) : remark("weights.rows"_said, {n, row});
}

// typical: the error of most tensors.
Remark finding_of(const TensorDifference& d, double typical) {
  if (!std::isfinite(d.rel_error)) return remark("weights.not_finite"_said);
  if (d.cosine < kForeign && !d.looks_like.empty()) return remark("weights.holds"_said, {d.looks_like});
  if (d.cosine < kUnlike) return remark("weights.unlike"_said, {fmt::format("{:.3f}", d.cosine)});
  if (d.dead_groups > 0)
    return remark("weights.dead"_said, {text_of(d.dead_groups), text_of(d.group), text_of(d.dead_row), text_of(d.dead_column),
                                       text_of(d.dead_column + d.group - 1)});
  if (d.foreign_rows > 0) return foreign_rows(d);
  if (d.opposed_runs > 0) {
    std::vector<std::string> args = {text_of(kOpposedRun), text_of(d.opposed_row), text_of(d.opposed_column),
                                     text_of(d.opposed_column + kOpposedRun - 1)};
    if (d.opposed_runs == 1) return remark("weights.opposed_run"_said, std::move(args));
    args.insert(args.begin(), text_of(d.opposed_runs));
    return remark("weights.opposed_runs"_said, std::move(args));
  }
  if (d.scaled_runs > 0) {
    std::vector<std::string> args = {text_of(kOpposedRun), fmt::format("{:.3g}", d.scaled_by), text_of(d.scaled_row), text_of(d.scaled_column),
                                     text_of(d.scaled_column + kOpposedRun - 1)};
    if (d.scaled_runs == 1) return remark("weights.scaled_run"_said, std::move(args));
    args.insert(args.begin(), text_of(d.scaled_runs));
    return remark("weights.scaled_runs"_said, std::move(args));
  }
  if (d.expected > 0 && std::max(d.rel_error, d.same_rows) > std::max(kSuspicious * d.expected, typical))
    return remark("weights.error"_said, {fmt::format("{:.3g}", d.rel_error), fmt::format("{:.1f}", d.rel_error / d.expected), d.type,
                                        text_of(d.worst_row)});
  if (d.is_float && d.rel_error > kFloatError)
    return remark("weights.float_error"_said, {fmt::format("{:.3g}", d.rel_error), text_of(d.worst_row)});
  return {};
}

// What changes the computation besides the weights: the architecture's own metadata keys.
std::vector<Remark> compare_configuration(const Model& base, const Model& candidate) {
  std::vector<Remark> found;
  const std::string architecture = base.hparams().architecture;
  if (architecture != candidate.hparams().architecture)
    return {remark("configuration.architecture"_said, {architecture, candidate.hparams().architecture})};
  const Hparams &b = base.hparams(), &c = candidate.hparams();
  const auto check = [&](const RemarkKind& kind, double x, double y) {
    if (std::abs(x - y) > 1e-6 * std::abs(x)) found.push_back(remark(kind, {fmt::format("{:g}", x), fmt::format("{:g}", y)}));
  };
  check("configuration.rope_base"_said, b.rope_base, c.rope_base);
  check("configuration.rope_dimensions"_said, b.rope_dims, c.rope_dims);
  check("configuration.rope_factor"_said, b.rope_scaling.factor, c.rope_scaling.factor);
  if (b.rope_scaling.kind != c.rope_scaling.kind)
    found.push_back(remark("configuration.rope_scaling"_said, {"'" + b.rope_scaling.kind + "'", "'" + c.rope_scaling.kind + "'"}));
  check("configuration.epsilon"_said, b.norm_eps, c.norm_eps);
  check("configuration.layers"_said, b.n_layers, c.n_layers);
  check("configuration.heads"_said, b.n_heads, c.n_heads);
  check("configuration.kv_heads"_said, b.n_kv_heads, c.n_kv_heads);
  check("configuration.head_dimension"_said, b.head_dim, c.head_dim);
  check("configuration.sliding_window"_said, b.sliding_window, c.sliding_window);
  const Vocabulary &v = base.vocabulary(), &w = candidate.vocabulary();
  check("configuration.bos"_said, v.bos, w.bos);
  check("configuration.add_bos"_said, v.add_bos, w.add_bos);
  check("configuration.eos"_said, v.eos, w.eos);
  if (v.chat_template != w.chat_template)
    found.push_back(v.chat_template.empty()   ? remark("configuration.chat_template.added"_said)
                    : w.chat_template.empty() ? remark("configuration.chat_template.missing"_said)
                                              : remark("configuration.chat_template"_said));
  return found;
}

// The median error of the tensors that were rounded.
double typical_error(std::span<const TensorDifference> tensors) {
  std::vector<double> errors;
  for (const TensorDifference& d : tensors)
    if (d.expected > 0 && std::isfinite(d.rel_error)) errors.push_back(d.rel_error);
  if (errors.empty()) return 0;
  std::nth_element(errors.begin(), errors.begin() + static_cast<ptrdiff_t>(errors.size() / 2), errors.end());
  return errors[errors.size() / 2];
}

}  // namespace

std::string transforms_of(const Model& candidate) {
  std::string how;
  const auto add = [&](const std::string& name) { how += (how.empty() ? "" : " ") + name; };
  if (const GgufValue* done = candidate.gguf_metadata().find("tsubu.transform"))
    if (const GgufArray* names = done->as_array())
      for (const std::string& name : names->strings) add(name);
  const std::filesystem::path manifest = std::filesystem::path(candidate.path()) / "tsubu_manifest.json";
  std::error_code none;
  if (!how.empty() || !std::filesystem::is_regular_file(manifest, none)) return how;
  const Json options = parse_json(read_text_file(manifest.string()), manifest.string()).value("options", Json::object());
  if (options.is_object() && options.contains("--transform") && options["--transform"].is_array())
    for (const Json& name : options["--transform"])
      if (name.is_string()) add(name.get<std::string>());
  return how;
}

std::string stored_type(const ModelTensor& tensor) { return Format(tensor).name(); }

uint32_t WeightDifferences::n_findings() const {
  if (!comparable) return 0;
  return static_cast<uint32_t>(
      std::count_if(tensors.begin(), tensors.end(), [](const TensorDifference& d) { return !d.finding.empty(); }));
}

WeightDifferences compare_weights(const Model& base, const Model& candidate, ThreadPool& pool) {
  WeightDifferences result;
  result.configuration = compare_configuration(base, candidate);
  if (const std::string how = transforms_of(candidate); !how.empty()) {
    result.comparable = false;
    result.reason = remark("weights.transformed"_said, {how});
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
      d.finding = other ? remark("weights.shape"_said) : remark("weights.missing"_said);
      if (t.spec().optional && !other) d.finding = {};
      if (!d.finding.empty()) result.tensors.push_back(d);
      continue;
    }
    TensorDifference d = compare_tensor(t, *other, pool);
    if (d.cosine < kForeign) d.looks_like = find_original(base, *other);
    if (d.looks_like == d.name) d.looks_like.clear();
    result.tensors.push_back(std::move(d));
  }
  progress.finish();
  const double typical = typical_error(result.tensors);
  for (TensorDifference& d : result.tensors)
    if (d.finding.empty()) d.finding = finding_of(d, typical);
  const auto may_fold = [&](const Layout* l) { return l->folds_norms && candidate.layout().find(l->name) != std::string_view::npos; };
  const auto has_other_norm = [](const TensorDifference& d) { return d.is_float && d.name.ends_with("norm.weight") && d.rel_error > kFloatError; };
  if (result.comparable && std::any_of(layouts().begin(), layouts().end(), may_fold) &&
      std::any_of(result.tensors.begin(), result.tensors.end(), has_other_norm)) {
    result.comparable = false;
    result.reason = remark("weights.folded"_said);
  }
  const auto key = [](const TensorDifference& d) { return std::isnan(d.rel_error) ? INFINITY : d.rel_error; };
  std::stable_sort(result.tensors.begin(), result.tensors.end(),
                   [&](const TensorDifference& a, const TensorDifference& b) { return key(a) > key(b); });
  return result;
}

Json to_json(const WeightDifferences& w) {
  Json json = {{"comparable", w.comparable}};
  if (!w.comparable) json["reason"] = to_json(w.reason);
  json["configuration"] = to_json(std::span<const Remark>(w.configuration));
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
              {"opposed_runs", d.opposed_runs},
              {"scaled_runs", d.scaled_runs}};
    if (d.scale_spread > 0) t["scales"] = {{"middle", d.scale_middle}, {"spread", d.scale_spread}, {"farthest", d.scale_farthest}};
    t["least_row_cosine"] = d.least_row_cosine;
    t["least_run_cosine"] = d.least_run_cosine;
    if (!d.finding.empty()) t["finding"] = to_json(d.finding);
    if (!d.finding.empty() && w.comparable) json["findings"].push_back({{"tensor", d.name}, {"finding", to_json(d.finding)}});
    json["tensors"].push_back(std::move(t));
  }
  return json;
}

}  // namespace tsubu
