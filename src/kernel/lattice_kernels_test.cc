// The rounding kernels of lattice formats: the scalar ones' bits on every instruction set and a gradient
// that stays true.
#include <cstring>
#include <memory>

#include "codec/type_info.h"
#include "kernel/kernel_test_util.h"
#include "kernel/lattice_panel.h"

namespace tsubu {
namespace {

constexpr size_t kRows = kPanelRows;

struct Problem {
  std::vector<float> h, m, w, weight;
  explicit Problem(uint32_t seed) : h(kSpan * kSpan), m(kSpan * kSpan), w(kSpan * kRows), weight(kSpan) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < kSpan; ++i)
      for (size_t j = 0; j <= i; ++j) {
        const float v = i == j ? 3 + std::fabs(normal(random)) : 0.1f * normal(random);
        h[i * kSpan + j] = h[j * kSpan + i] = v;
        m[i * kSpan + j] = m[j * kSpan + i] = i == j ? 1 : 0.05f * normal(random);
      }
    for (float& v : w) v = 0.05f * normal(random);
    for (float& v : weight) v = 1 + std::fabs(normal(random));
  }
};

struct Outcome {
  LatticePanel panel = {};
  std::vector<float> g;
};

std::unique_ptr<Outcome> run(const Kernels& k, const TypeInfo& type) {
  const Problem problem(11);
  auto o = std::make_unique<Outcome>();
  std::vector<std::byte> bytes(type.block_bytes);
  std::vector<float> x(kSpan);
  for (size_t l = 0; l < kRows; ++l) {
    for (size_t j = 0; j < kSpan; ++j) x[j] = problem.w[j * kRows + l];
    type.encode(x.data(), nullptr, bytes.data(), x.size());
    LatticeBlock block = {};
    type.lattice->unpack(bytes.data(), block);
    o->panel.d[l] = block.d.value();
    for (size_t s = 0; s < static_cast<size_t>(type.lattice->n_sub); ++s)
      o->panel.scale[s * kRows + l] = block.scale[s];
    for (size_t g = 0; g < kLatticeGroups; ++g) o->panel.shift[g * kRows + l] = block.shift[g];
  }
  std::vector<float> t = problem.w;
  k.lattice_feedback[type.index](o->panel, problem.w.data(), t.data(), problem.m.data(), kSpan, problem.weight.data(),
                                 true);
  o->g.assign(kSpan * kRows, 0.0f);  // r H
  for (size_t j = 0; j < kSpan; ++j)
    for (size_t i = 0; i < kSpan; ++i)
      for (size_t l = 0; l < kRows; ++l)
        o->g[j * kRows + l] += (problem.w[i * kRows + l] - o->panel.value[i * kRows + l]) * problem.h[i * kSpan + j];
  for (int pass = 0; pass < 2; ++pass)
    k.lattice_descend[type.index](o->panel, o->g.data(), problem.h.data(), kSpan, false);
  return o;
}

TEST(LatticeKernels, EveryInstructionSetGivesTheSameBits) {
  for (const TypeInfo& type : types()) {
    if (!type.lattice) continue;
    const auto reference = run(*runnable_kernels().front(), type);
    for (const Kernels* k : runnable_kernels()) {
      const auto other = run(*k, type);
      EXPECT_EQ(std::memcmp(&reference->panel, &other->panel, sizeof(LatticePanel)), 0) << type.name << " on " << k->isa;
      EXPECT_EQ(std::memcmp(reference->g.data(), other->g.data(), reference->g.size() * sizeof(float)), 0)
          << type.name << " on " << k->isa;
    }
  }
}

// g stays the residual times H: what the descent believes is what it has.
TEST(LatticeKernels, TheGradientStaysTrue) {
  for (const TypeInfo& type : types()) {
    if (!type.lattice) continue;
    const Problem problem(11);
    const auto o = run(kernels(), type);
    double worst = 0, largest = 0;
    for (size_t j = 0; j < kSpan; ++j)
      for (size_t l = 0; l < kRows; ++l) {
        double sum = 0;
        for (size_t i = 0; i < kSpan; ++i)
          sum += (static_cast<double>(problem.w[i * kRows + l]) - static_cast<double>(o->panel.value[i * kRows + l])) *
                 static_cast<double>(problem.h[i * kSpan + j]);
        worst = std::max(worst, std::fabs(sum - static_cast<double>(o->g[j * kRows + l])));
        largest = std::max(largest, std::fabs(sum));
      }
    EXPECT_LT(worst, 1e-4 * largest + 1e-6) << type.name;
  }
}

}  // namespace
}  // namespace tsubu
