#include "lens/perturbation.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/size.h"
#include "kernel/kernels.h"
#include "base/draws.h"

namespace tsubu {
namespace {

constexpr double kSmallest = 0.01;   // of the root mean square: |x|^gamma below it stays as there
constexpr uint64_t kRowsAtOnce = 16;
constexpr int kBisections = 40;      // of the threshold that gives r: a part in 2^40 of the largest value

constexpr PerturbationKind kKinds[] = {
    {"gaussian", "normal noise, blind to the size of the values"},
    {"uniform", "uniform noise"},
    {"rademacher", "noise of one size and random sign"},
    {"M+", "noise that grows with the magnitude of the value"},
    {"M-", "noise that falls with the magnitude of the value"},
    {"gamma", "noise in proportion to |x|^G (1: M+, 0: gaussian)", true},
    {"rows", "normal noise in the size of each row", false, false},
    {"clip", "the largest magnitudes cut to a quantile: share clipped, or none for what gives r", true},
};

// Of the values that a scope (a tensor, a row, a token) holds.
struct Extent {
  double squares = 0, largest = 0;
  uint64_t n = 0;
  void add(const float* x, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const double v = static_cast<double>(x[i]);
      squares += v * v;
      largest = std::max(largest, std::abs(v));
    }
    n += count;
  }
  double rms() const { return n > 0 ? std::sqrt(squares / static_cast<double>(n)) : 0.0; }
};

// Unscaled Δ of one row.
using RowNoise = std::function<void(const float* x, size_t n, const Extent& scope, RowDraws& draws, double* delta)>;

double power_of(double magnitude, double gamma, const Extent& scope) {
  return std::pow(std::max(magnitude, kSmallest * scope.rms()), gamma);
}

RowNoise noise_of(const Perturbation& p) {
  const std::string_view name = p.kind->name;
  if (name == "uniform")
    return [](const float*, size_t n, const Extent&, RowDraws& draws, double* d) {
      for (size_t i = 0; i < n; ++i) d[i] = 2 * draws.uniform() - 1;
    };
  if (name == "rademacher")
    return [](const float*, size_t n, const Extent&, RowDraws& draws, double* d) {
      for (size_t i = 0; i < n; ++i) d[i] = draws.sign();
    };
  if (name == "M+")
    return [](const float* x, size_t n, const Extent&, RowDraws& draws, double* d) {
      for (size_t i = 0; i < n; ++i) d[i] = draws.normal() * std::abs(static_cast<double>(x[i]));
    };
  if (name == "M-")
    return [](const float* x, size_t n, const Extent& scope, RowDraws& draws, double* d) {
      for (size_t i = 0; i < n; ++i) d[i] = draws.normal() * (scope.largest - std::abs(static_cast<double>(x[i])));
    };
  if (name == "gamma")
    return [gamma = p.parameter](const float* x, size_t n, const Extent& scope, RowDraws& draws, double* d) {
      for (size_t i = 0; i < n; ++i)
        d[i] = draws.normal() * power_of(std::abs(static_cast<double>(x[i])), gamma, scope);
    };
  if (name == "rows")
    return [](const float* x, size_t n, const Extent&, RowDraws& draws, double* d) {
      Extent row;
      row.add(x, n);
      for (size_t i = 0; i < n; ++i) d[i] = draws.normal() * row.rms();
    };
  return [](const float*, size_t n, const Extent&, RowDraws& draws, double* d) {
    for (size_t i = 0; i < n; ++i) d[i] = draws.normal();
  };
}

// The k-th largest magnitude as threshold: of n values, the share p is larger.
double quantile_threshold(const float* x, uint64_t n, double share) {
  std::vector<float> magnitudes(n);
  for (uint64_t i = 0; i < n; ++i) magnitudes[i] = std::abs(x[i]);
  const auto k = static_cast<uint64_t>(std::llround(share * static_cast<double>(n)));
  if (k == 0 || n == 0) return 1e300;
  const auto at = magnitudes.begin() + static_cast<ptrdiff_t>(n - std::min(k, n));
  std::nth_element(magnitudes.begin(), at, magnitudes.end());
  return static_cast<double>(*at);
}

double clipped_energy(const float* x, uint64_t n, double threshold) {
  double sum = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double over = std::abs(static_cast<double>(x[i])) - threshold;
    if (over > 0) sum += over * over;
  }
  return sum;
}

// f(first, n) over pieces of n_values values; the sum of what it returns, in order.
double sum_pieces(uint64_t n_values, ThreadPool& pool, const std::function<double(uint64_t first, uint64_t n)>& f) {
  constexpr uint64_t kPiece = uint64_t{1} << 16;
  std::vector<double> parts((n_values + kPiece - 1) / kPiece);
  pool.parallel_for(parts.size(), [&](size_t i, int) {
    parts[i] = f(i * kPiece, std::min(kPiece, n_values - i * kPiece));
  });
  double sum = 0;
  for (double v : parts) sum += v;
  return sum;
}

// Cuts values to ±threshold; Σ of the squared change.
double clip_values(float* x, uint64_t n, const Perturbation& p, const Extent& scope, ThreadPool& pool) {
  double threshold = 0;
  if (p.parameter > 0) {
    threshold = quantile_threshold(x, n, p.parameter);
  } else {
    double low = 0, high = scope.largest;
    for (int i = 0; i < kBisections; ++i) {
      threshold = (low + high) / 2;
      const double energy = sum_pieces(n, pool, [&](uint64_t first, uint64_t count) {
        return clipped_energy(x + first, count, threshold);
      });
      (energy > p.r * p.r * scope.squares ? low : high) = threshold;
    }
  }
  const auto limit = static_cast<float>(std::min(threshold, 3e38));
  return sum_pieces(n, pool, [&](uint64_t first, uint64_t count) {
    double sum = 0;
    for (uint64_t i = first; i < first + count; ++i) {
      const float cut = std::clamp(x[i], -limit, limit);
      const double change = static_cast<double>(cut) - static_cast<double>(x[i]);
      sum += change * change;
      x[i] = cut;
    }
    return sum;
  });
}

// Rows of x, all in one scope. Returns the relative norm of the change.
double perturb_scope(float* x, uint64_t n_rows, uint64_t n_cols, const Perturbation& p, const float* importance,
                     uint64_t key, uint64_t first_row, ThreadPool& pool) {
  std::vector<Extent> extents((n_rows + kRowsAtOnce - 1) / kRowsAtOnce);
  const auto each_row = [&](const auto& f) {  // f(item, row, worker)
    pool.parallel_for(extents.size(), [&](size_t item, int worker) {
      for (uint64_t r = item * kRowsAtOnce; r < std::min(n_rows, (item + 1) * kRowsAtOnce); ++r) f(item, r, worker);
    });
  };
  each_row([&](size_t item, uint64_t r, int) { extents[item].add(x + r * n_cols, n_cols); });
  Extent scope;
  for (const Extent& e : extents) {
    scope.squares += e.squares;
    scope.largest = std::max(scope.largest, e.largest);
    scope.n += e.n;
  }
  if (scope.squares == 0) return 0;
  if (p.kind && p.kind->name == "clip") return std::sqrt(clip_values(x, scope.n, p, scope, pool) / scope.squares);

  const RowNoise noise = p.kind ? noise_of(p) : RowNoise();
  std::vector<std::vector<double>> deltas(static_cast<size_t>(pool.size()), std::vector<double>(n_cols));
  std::vector<std::vector<std::byte>> blocks(static_cast<size_t>(pool.size()));
  std::vector<std::vector<float>> decoded(static_cast<size_t>(pool.size()));
  const auto row_delta = [&](uint64_t r, int worker) -> const std::vector<double>& {
    std::vector<double>& delta = deltas[static_cast<size_t>(worker)];
    const float* row = x + r * n_cols;
    if (noise) {
      RowDraws draws(p.seed, key, first_row + r);
      noise(row, n_cols, scope, draws, delta.data());
      return delta;
    }
    auto& bytes = blocks[static_cast<size_t>(worker)];
    auto& y = decoded[static_cast<size_t>(worker)];
    bytes.resize(n_cols / p.codec->block_len * p.codec->block_bytes);
    y.resize(n_cols);
    kernels().encode[p.codec->index](row, importance, bytes.data(), n_cols);
    kernels().decode[p.codec->index](bytes.data(), y.data(), n_cols);
    for (uint64_t c = 0; c < n_cols; ++c) delta[c] = static_cast<double>(y[c]) - static_cast<double>(row[c]);
    return delta;
  };

  double scale = 1;
  if (p.kind || p.r > 0) {
    std::vector<double> sums(extents.size());
    each_row([&](size_t item, uint64_t r, int worker) {
      for (double d : row_delta(r, worker)) sums[item] += d * d;
    });
    double norm = 0;
    for (double s : sums) norm += s;
    if (norm == 0) return 0;
    scale = p.r * std::sqrt(scope.squares / norm);
  }
  std::vector<double> changes(extents.size());
  each_row([&](size_t item, uint64_t r, int worker) {
    const std::vector<double>& delta = row_delta(r, worker);
    float* row = x + r * n_cols;
    for (uint64_t c = 0; c < n_cols; ++c) {
      const auto changed = static_cast<float>(static_cast<double>(row[c]) + scale * delta[c]);
      const double change = static_cast<double>(changed) - static_cast<double>(row[c]);
      changes[item] += change * change;
      row[c] = changed;
    }
  });
  double change = 0;
  for (double c : changes) change += c;
  return std::sqrt(change / scope.squares);
}

}  // namespace

std::span<const PerturbationKind> perturbation_kinds() { return kKinds; }

bool Perturbation::is_random() const { return kind && kind->name != "clip"; }

std::string Perturbation::name() const {
  if (!kind) return std::string(codec->name);
  if (!kind->has_parameter || (kind->name == "clip" && parameter == 0)) return std::string(kind->name);
  return fmt::format("{}={:g}", kind->name, parameter);
}

Perturbation parse_perturbation(std::string_view text) {
  const size_t equal = text.find('=');
  const std::string_view name = text.substr(0, equal);
  Perturbation p;
  for (const PerturbationKind& kind : kKinds) {
    if (kind.name != name) continue;
    p.kind = &kind;
    const bool needed = kind.has_parameter && kind.name != "clip";
    if (equal == std::string_view::npos ? needed : !kind.has_parameter)
      fail(ExitCode::kUsage, "perturbation '{}': expected {}{}", text, kind.name,
           needed ? "=NUMBER" : kind.has_parameter ? " or clip=SHARE" : " alone");
    if (equal == std::string_view::npos) return p;
    const std::string number(text.substr(equal + 1));
    size_t used = 0;
    try {
      p.parameter = std::stod(number, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    const bool clips = kind.name == "clip";
    if (used == 0 || used != number.size() || !(clips ? p.parameter > 0 && p.parameter < 1 : std::abs(p.parameter) <= 4))
      fail(ExitCode::kUsage, "perturbation '{}': expected {}", text,
           clips ? "a share between 0 and 1" : "an exponent between -4 and 4");
    return p;
  }
  p.codec = find_type(text);
  if (p.codec && p.codec->encode) return p;
  std::vector<std::string> names;
  for (const PerturbationKind& kind : kKinds) names.emplace_back(kind.name);
  for (const TypeInfo& type : types())
    if (type.encode) names.emplace_back(type.name);
  const std::string near = nearest_name(name, names.data(), names.size());
  fail(ExitCode::kUsage, "unknown perturbation '{}'{} (there are: {})", text,
       near.empty() ? "" : ": did you mean " + near + "?", fmt::join(names, ", "));
}

uint64_t draw_key(std::string_view name) {
  uint64_t key = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return key;
}

PerturbedTensor perturb(const ModelTensor& tensor, const Perturbation& p, const float* importance, ThreadPool& pool) {
  const uint64_t n_rows = tensor.n_rows(), n_cols = tensor.n_cols();
  if (p.codec && n_cols % p.codec->block_len != 0)
    fail(ExitCode::kUsage, "{}: {} columns are no multiple of {}'s block of {}", tensor.name(), n_cols, p.codec->name,
         p.codec->block_len);
  PerturbedTensor result;
  result.values.resize(n_rows * n_cols);
  pool.parallel_for((n_rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](size_t item, int) {
    const uint64_t first = item * kRowsAtOnce, n = std::min(kRowsAtOnce, n_rows - first);
    tensor.read_rows(first, n, result.values.data() + first * n_cols);
  });
  result.r = perturb_scope(result.values.data(), n_rows, n_cols, p, importance, draw_key(tensor.name()), 0, pool);
  return result;
}

void perturb_rows(float* x, size_t n_rows, size_t n_cols, const Perturbation& p, bool each_row, uint64_t key,
                  uint64_t first_row, ThreadPool& pool) {
  if (p.codec && n_cols % p.codec->block_len != 0) return;
  if (!each_row) {
    perturb_scope(x, n_rows, n_cols, p, nullptr, key, first_row, pool);
    return;
  }
  pool.parallel_for((n_rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](size_t item, int) {
    ThreadPool alone(1);
    for (size_t r = item * kRowsAtOnce; r < std::min<size_t>(n_rows, (item + 1) * kRowsAtOnce); ++r)
      perturb_scope(x + r * n_cols, 1, n_cols, p, nullptr, key, first_row + r, alone);
  });
}

}  // namespace tsubu
