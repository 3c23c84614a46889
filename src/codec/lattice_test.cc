// The lattice form of a block: packing any block and unpacking it gives the same block, and the form's formula is the
// decoder's, float for float.
#include "codec/lattice.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "codec/codecs.h"
#include "codec/type_info.h"

namespace tsubu {
namespace {

std::vector<TypeInfo> lattice_types() {
  std::vector<TypeInfo> r;
  for (const TypeInfo& type : types())
    if (type.lattice) r.push_back(type);
  return r;
}

class EveryLattice : public testing::TestWithParam<TypeInfo> {};

TEST_P(EveryLattice, PacksAndUnpacks) {
  const TypeInfo& type = GetParam();
  const LatticeAccess& access = *type.lattice;
  EXPECT_EQ(type.block_len, static_cast<uint32_t>(kLatticeBlock));
  std::mt19937 random(7);
  for (int repeat = 0; repeat < 200; ++repeat) {
    // Random bytes are a block of random points; only its scale must be a number.
    std::vector<std::byte> bytes(type.block_bytes), again(type.block_bytes);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    LatticeBlock block = {}, second = {};
    access.unpack(bytes.data(), block);
    block.d = Half::of(std::uniform_real_distribution<float>(0, 2)(random));
    access.pack(block, bytes.data());
    access.unpack(bytes.data(), second);
    access.pack(second, again.data());
    EXPECT_EQ(bytes, again);
    EXPECT_EQ(block.d.bits(), second.d.bits());
    for (int s = 0; s < access.n_sub; ++s) EXPECT_EQ(block.scale[s], second.scale[s]) << s;
    for (int g = 0; g < kLatticeGroups; ++g) {
      for (int p = 0; p < access.points_per_group; ++p) EXPECT_EQ(block.code[g].point[p], second.code[g].point[p]) << g;
      EXPECT_EQ(block.code[g].minus, second.code[g].minus) << g;
      EXPECT_EQ(block.shift[g], second.shift[g]) << g;
    }
  }
}

TEST_P(EveryLattice, EncodedBlocksSurvive) {
  const TypeInfo& type = GetParam();
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  std::vector<float> x(type.block_len);
  for (float& v : x) v = normal(random);
  std::vector<std::byte> bytes(type.block_bytes), again(type.block_bytes);
  type.encode(x.data(), nullptr, bytes.data(), x.size());
  LatticeBlock block = {};
  type.lattice->unpack(bytes.data(), block);
  type.lattice->pack(block, again.data());
  EXPECT_EQ(bytes, again);
}

INSTANTIATE_TEST_SUITE_P(Types, EveryLattice, testing::ValuesIn(lattice_types()),
                         [](const auto& info) { return std::string(info.param.name); });

// decode = (d · unit(scale)) · (sign · level + shift) of what unpack gives.
template <class C>
void expect_formula() {
  if constexpr (HasLattice<C>) {
    std::mt19937 random(9);
    std::vector<float> x(kLatticeBlock), decoded(kLatticeBlock);
    std::normal_distribution<float> normal;
    for (float& v : x) v = normal(random);
    const TypeInfo& type = type_named(C::kName);
    std::vector<std::byte> bytes(type.block_bytes);
    type.encode(x.data(), nullptr, bytes.data(), x.size());
    type.decode(bytes.data(), decoded.data(), decoded.size());
    LatticeBlock k = {};
    type.lattice->unpack(bytes.data(), k);
    for (int g = 0; g < kLatticeGroups; ++g) {
      float level[kLatticeGroup];
      lattice_values<typename C::Lattice>(k.code[g], k.shift[g], level);
      const float scale = k.d.value() * C::Scales::unit(k.scale[g * kLatticeGroup / C::Scales::kSubLen]);
      for (int i = 0; i < kLatticeGroup; ++i)
        ASSERT_EQ(decoded[static_cast<size_t>(g * kLatticeGroup + i)], scale * level[i]) << C::kName << " group " << g;
    }
  }
}
template <class... C>
void expect_formulas(TypeList<C...>) {
  (expect_formula<C>(), ...);
}
TEST(Lattice, TheFormulaIsTheDecoders) { expect_formulas(CodecList{}); }

}  // namespace
}  // namespace tsubu
