// The rounding kernels give the scalar ones' bits on every instruction set.
#include <cstring>
#include <memory>

#include "codec/type_info.h"
#include "kernel/grid_panel.h"
#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

constexpr int kRows = kPanelRows;

struct Problem {
  std::vector<float> h, m, w, weight, coupling;
  explicit Problem(uint32_t seed)
      : h(kSpan * kSpan), m(kSpan * kSpan), w(kSpan * kRows), weight(kSpan), coupling(kRows * kRows) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < kSpan; ++i)
      for (int j = 0; j <= i; ++j) {
        const float v = i == j ? 3 + std::fabs(normal(random)) : 0.1f * normal(random);
        h[static_cast<size_t>(i * kSpan + j)] = h[static_cast<size_t>(j * kSpan + i)] = v;
        m[static_cast<size_t>(i * kSpan + j)] = m[static_cast<size_t>(j * kSpan + i)] =
            i == j ? 1 : 0.05f * normal(random);
      }
    for (float& v : w) v = 0.05f * normal(random);
    for (float& v : weight) v = 1 + std::fabs(normal(random));
    for (int r = 0; r < kRows; ++r)
      for (int s = 0; s < kRows; ++s) coupling[static_cast<size_t>(kRows * s + r)] = r == s ? 1 : 0.2f * normal(random);
  }
  // What g has to be: residuals of all rows, each as far as it is coupled, times H.
  std::vector<double> gradient(const GridPanel& panel, bool coupled) const {
    std::vector<double> residual(kSpan * kRows), g(kSpan * kRows);
    for (size_t i = 0; i < kSpan; ++i)
      for (size_t r = 0; r < kRows; ++r)
        for (size_t s = 0; s < kRows; ++s) {
          const double share = coupled ? static_cast<double>(coupling[kRows * s + r]) : s == r ? 1 : 0;
          residual[i * kRows + r] +=
              share * (static_cast<double>(w[i * kRows + s]) - static_cast<double>(panel.value[i * kRows + s]));
        }
    for (size_t j = 0; j < kSpan; ++j)
      for (size_t i = 0; i < kSpan; ++i)
        for (size_t r = 0; r < kRows; ++r) g[j * kRows + r] += residual[i * kRows + r] * static_cast<double>(h[i * kSpan + j]);
    return g;
  }
};

void start(GridPanel& p, const TypeInfo& type, const Problem& problem) {
  const GridSpec& spec = type.grid->spec;
  p.spec = &spec;
  p.n_cols = kSpan;
  std::vector<std::byte> bytes(type.block_bytes);
  std::vector<float> x(type.block_len);
  for (size_t b = 0; b < kSpan / type.block_len; ++b)
    for (size_t l = 0; l < kRows; ++l) {
      for (size_t j = 0; j < x.size(); ++j) x[j] = problem.w[(b * x.size() + j) * kRows + l];
      type.encode(x.data(), nullptr, bytes.data(), x.size());
      GridBlock block = {};
      type.grid->unpack(bytes.data(), block);
      p.d[b * kRows + l] = block.d.value();
      p.dmin[b * kRows + l] = block.dmin.value();
      for (size_t s = 0; s < static_cast<size_t>(spec.n_sub); ++s) {
        p.scale[(b * static_cast<size_t>(spec.n_sub) + s) * kRows + l] = block.scale[s];
        p.min[(b * static_cast<size_t>(spec.n_sub) + s) * kRows + l] = block.min[s];
      }
    }
}

struct Outcome {
  GridPanel panel = {};
  std::vector<float> t, g;
};

std::unique_ptr<Outcome> run(const Kernels& k, const TypeInfo& type, const Problem& problem, bool coupled) {
  auto o = std::make_unique<Outcome>();
  start(o->panel, type, problem);
  o->t = problem.w;
  for (size_t b = 0; b < kSpan / type.block_len; ++b)
    k.grid_feedback(o->panel, static_cast<int>(b), problem.w.data(), o->t.data(), problem.m.data(), kSpan,
                    problem.weight.data(), true);
  const std::vector<double> g = problem.gradient(o->panel, coupled);
  o->g.assign(g.begin(), g.end());
  if (coupled) {
    o->panel.coupling = problem.coupling.data();
    o->panel.bound = 2.5f;
  }
  k.grid_descend(o->panel, o->g.data(), problem.h.data(), kSpan, 2, false);
  return o;
}

TEST(GridKernels, EveryInstructionSetGivesTheSameBits) {
  const Problem problem(11);
  for (const bool coupled : {false, true})
    for (const TypeInfo& type : types()) {
      if (!type.grid) continue;
      const auto reference = run(*runnable_kernels().front(), type, problem, coupled);
      for (const Kernels* k : runnable_kernels()) {
        const auto other = run(*k, type, problem, coupled);
        EXPECT_EQ(std::memcmp(reference->panel.value, other->panel.value, sizeof(reference->panel.value)), 0)
            << type.name << " on " << k->isa << " " << coupled;
        EXPECT_EQ(std::memcmp(reference->g.data(), other->g.data(), reference->g.size() * sizeof(float)), 0)
            << type.name << " on " << k->isa << " " << coupled;
      }
    }
}

// g stays the residual times H: what the descent believes is what it has.
TEST(GridKernels, TheGradientStaysTrue) {
  const Problem problem(11);
  for (const bool coupled : {false, true})
    for (const TypeInfo& type : types()) {
      if (!type.grid) continue;
      const auto o = run(kernels(), type, problem, coupled);
      const std::vector<double> g = problem.gradient(o->panel, coupled);
      double worst = 0, largest = 0;
      for (size_t i = 0; i < g.size(); ++i) {
        worst = std::max(worst, std::fabs(g[i] - static_cast<double>(o->g[i])));
        largest = std::max(largest, std::fabs(g[i]));
      }
      EXPECT_LT(worst, 1e-4 * largest + 1e-6) << type.name << " " << coupled;
    }
}

TEST(FactorKernels, EveryInstructionSetGivesTheSameBits) {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  const size_t rows = 21, cols = 37, depth = 19;
  std::vector<double> a(rows * depth), b(depth * cols), c(rows * cols);
  for (auto* v : {&a, &b, &c})
    for (double& x : *v) x = normal(random);
  std::vector<double> expected;
  for (const Kernels* k : runnable_kernels()) {
    std::vector<double> out = c;
    k->subtract_product(out.data(), cols, a.data(), depth, b.data(), cols, rows, cols, depth);
    if (expected.empty()) {
      expected = out;
      for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j < cols; ++j) {
          double sum = c[i * cols + j];
          for (size_t d = 0; d < depth; ++d) sum -= a[i * depth + d] * b[d * cols + j];
          EXPECT_NEAR(out[i * cols + j], sum, 1e-12);
        }
    }
    EXPECT_EQ(std::memcmp(expected.data(), out.data(), out.size() * sizeof(double)), 0) << k->isa;
  }
}

}  // namespace
}  // namespace tsubu
