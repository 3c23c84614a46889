#include "pipeline/diff.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {
namespace {

constexpr uint64_t kPieceWeights = uint64_t{1} << 16;
constexpr double kEqualDb = 999;

std::string type_text(const ModelTensor& t) {
  return t.quantized() ? t.quantized()->kind() : std::string(t.type().name);
}

double bits_of(const ModelTensor& t) {
  return 8.0 * static_cast<double>(t.size_bytes()) / static_cast<double>(t.n_elements());
}

struct Sums {
  double error = 0, reference = 0, weighted_error = 0, weighted_reference = 0, max_abs = 0;
  uint64_t n_differ = 0;

  void add(const Sums& s) {
    error += s.error;
    reference += s.reference;
    weighted_error += s.weighted_error;
    weighted_reference += s.weighted_reference;
    max_abs = std::max(max_abs, s.max_abs);
    n_differ += s.n_differ;
  }
};

double ratio(double error, double reference) {
  return reference > 0 ? std::sqrt(error / reference) : error > 0 ? INFINITY : 0.0;
}

Sums compare(const ModelTensor& a, const ModelTensor& b, const std::vector<float>& importance, ThreadPool& pool) {
  const uint64_t n = a.n_cols(), rows = std::max<uint64_t>(1, kPieceWeights / n);
  std::vector<Sums> pieces((a.n_rows() + rows - 1) / rows);
  pool.parallel_for(pieces.size(), [&](size_t item, int) {
    const uint64_t first = item * rows, count = std::min(rows, a.n_rows() - first);
    std::vector<float> x(count * n), y(count * n);
    a.read_rows(first, count, x.data());
    b.read_rows(first, count, y.data());
    a.release_rows(first, count);
    b.release_rows(first, count);
    Sums& s = pieces[item];
    for (uint64_t i = 0; i < count * n; ++i) {
      const double v = static_cast<double>(x[i]), e = static_cast<double>(y[i]) - v;
      s.error += e * e;
      s.reference += v * v;
      s.max_abs = std::isnan(e) ? INFINITY : std::max(s.max_abs, std::fabs(e));
      s.n_differ += x[i] != y[i];
      if (importance.empty()) continue;
      const auto weight = static_cast<double>(importance[i % n]);
      s.weighted_error += weight * e * e;
      s.weighted_reference += weight * v * v;
    }
  });
  Sums total;
  for (const Sums& s : pieces) total.add(s);
  return total;
}

}  // namespace

DiffResult diff_models(const Model& a, const Model& b, const Imatrix* stats, ThreadPool& pool) {
  DiffResult r;
  Sums all;
  double bytes_a = 0, bytes_b = 0;
  Progress progress("diff", a.n_parameters(), "w");
  for (const ModelTensor& t : a.tensors()) {
    throw_if_interrupted();
    const ModelTensor* other = b.find(t.name());
    if (!other) {
      r.only_a.push_back(t.name());
      continue;
    }
    if (other->spec().shape != t.spec().shape)
      fail(ExitCode::kBadInput, "{}: tensor {}: expected [{}] as in {}, found [{}]: these are different models", b.path(),
           t.name(), fmt::join(t.spec().shape, ", "), a.path(), fmt::join(other->spec().shape, ", "));
    std::vector<float> importance;
    if (stats) {
      const auto entry = stats->entries.find(t.name());
      if (entry != stats->entries.end() && entry->second.counts.size() == 1) {
        importance = entry->second.mean_squares(0);
        if (importance.size() != t.n_cols())
          fail(ExitCode::kBadInput,
               "statistics of {}: expected {} columns as in the model, found {} (were they made with another model?)",
               t.name(), t.n_cols(), importance.size());
      }
    }
    const Sums s = compare(t, *other, importance, pool);
    TensorDistance d;
    d.name = t.name();
    d.type_a = type_text(t);
    d.type_b = type_text(*other);
    d.shape = t.spec().shape;
    d.rel_l2 = ratio(s.error, s.reference);
    if (!importance.empty()) d.rel_weighted = ratio(s.weighted_error, s.weighted_reference);
    d.snr_db = d.rel_l2 > 0 ? -20 * std::log10(d.rel_l2) : kEqualDb;
    d.max_abs = s.max_abs;
    d.bits_a = bits_of(t);
    d.bits_b = bits_of(*other);
    d.n_differ = s.n_differ;
    r.tensors.push_back(std::move(d));
    all.add(s);
    r.n_weights += t.n_elements();
    bytes_a += static_cast<double>(t.size_bytes());
    bytes_b += static_cast<double>(other->size_bytes());
    progress.advance(t.n_elements(), t.name());
  }
  progress.finish();
  for (const ModelTensor& t : b.tensors())
    if (!a.find(t.name())) r.only_b.push_back(t.name());
  r.rel_l2 = ratio(all.error, all.reference);
  if (all.weighted_reference > 0) r.rel_weighted = ratio(all.weighted_error, all.weighted_reference);
  r.n_differ = all.n_differ;
  if (r.n_weights > 0) {
    r.bits_a = 8 * bytes_a / static_cast<double>(r.n_weights);
    r.bits_b = 8 * bytes_b / static_cast<double>(r.n_weights);
  }
  std::stable_sort(r.tensors.begin(), r.tensors.end(), [](const auto& x, const auto& y) {
    const auto key = [](const TensorDistance& d) {
      const double e = d.rel_weighted >= 0 ? d.rel_weighted : d.rel_l2;
      return std::isnan(e) ? INFINITY : e;
    };
    return key(x) > key(y);
  });
  return r;
}

Json to_json(const DiffResult& r) {
  const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); };
  Json json;
  json["n_weights"] = r.n_weights;
  json["n_differ"] = r.n_differ;
  json["rel_l2"] = number(r.rel_l2);
  if (r.rel_weighted >= 0) json["rel_weighted"] = number(r.rel_weighted);
  json["bits_per_weight"] = {r.bits_a, r.bits_b};
  json["only_a"] = r.only_a;
  json["only_b"] = r.only_b;
  json["tensors"] = Json::array();
  for (const TensorDistance& d : r.tensors) {
    Json item{{"name", d.name},
              {"shape", d.shape},
              {"types", {d.type_a, d.type_b}},
              {"rel_l2", number(d.rel_l2)},
              {"snr_db", number(d.snr_db)},
              {"max_abs", number(d.max_abs)},
              {"n_differ", d.n_differ},
              {"bits_per_weight", {d.bits_a, d.bits_b}}};
    if (d.rel_weighted >= 0) item["rel_weighted"] = number(d.rel_weighted);
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

}  // namespace tsubu
