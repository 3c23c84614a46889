// Every instruction set encodes and decodes to the bytes of the reference in codec/.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "codec/type_info.h"
#include "kernel/kernel_test_util.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

class CodecKernels : public testing::TestWithParam<TypeInfo> {};

TEST_P(CodecKernels, DecodeGivesTheSameBits) {
  const TypeInfo& type = GetParam();
  std::mt19937 generator(1);
  for (const size_t n_blocks : {1, 3, 17, 50}) {  // odd counts: tails of the types with one weight per block
    std::vector<std::byte> blocks(n_blocks * type.block_bytes + 1);
    for (std::byte& b : blocks) b = static_cast<std::byte>(generator());
    std::vector<float> expected(n_blocks * type.block_len), y(expected.size());
    for (size_t shift = 0; shift < 2; ++shift) {  // blocks may lie at any address
      type.decode(blocks.data() + shift, expected.data(), expected.size());
      for (const Kernels* k : runnable_kernels()) {
        k->decode[type.index](blocks.data() + shift, y.data(), y.size());
        for (size_t i = 0; i < y.size(); ++i)
          ASSERT_TRUE(kernel_test::same_bits(y[i], expected[i]))
              << k->isa << " at " << i << ": " << y[i] << ", expected " << expected[i];
      }
    }
  }
}

TEST_P(CodecKernels, EncodeGivesTheSameBytes) {
  const TypeInfo& type = GetParam();
  if (!type.encode) GTEST_SKIP() << type.name << " can only be decoded";
  std::mt19937 generator(2);
  std::normal_distribution<float> normal;
  for (const float size : {0.02f, 1e-7f, 1e-30f, 1e6f, 1e30f}) {
    const size_t n = type.block_len == 1 ? 1019 : 2048;
    std::vector<float> x(n), q(n);
    for (float& v : x) v = normal(generator) * size * (generator() % 50 ? 1.0f : 8.0f);
    for (float& v : q) v = std::exp(2 * normal(generator));
    std::fill(x.begin(), x.begin() + 300, 0.0f);
    for (const float* importance : {static_cast<const float*>(nullptr), static_cast<const float*>(q.data())}) {
      std::vector<std::byte> expected(n / type.block_len * type.block_bytes), blocks(expected.size());
      type.encode(x.data(), importance, expected.data(), n);
      for (const Kernels* k : runnable_kernels()) {
        k->encode[type.index](x.data(), importance, blocks.data(), n);
        EXPECT_TRUE(blocks == expected) << k->isa << ", size " << size << (importance ? ", importance" : "");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CodecKernels, testing::ValuesIn(types().begin(), types().end()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace tsubu
