// Decoding against tests/golden/codec (made by tests/make_codec_goldens.py; the layout is told there).
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "codec/type_info.h"

namespace tsubu {
namespace {

std::vector<char> read_golden(std::string_view name) {
  std::ifstream file(std::string(TSUBU_SOURCE_DIR) + "/tests/golden/codec/" + std::string(name) + ".bin",
                     std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The package's float of a NaN is any NaN; the golden holds one spelling.
std::vector<uint32_t> bits_of(const std::vector<float>& y) {
  std::vector<uint32_t> bits(y.size());
  for (size_t i = 0; i < y.size(); ++i) bits[i] = y[i] != y[i] ? 0x7fc00000u : std::bit_cast<uint32_t>(y[i]);
  return bits;
}

uint64_t fnv1a(const void* data, size_t size) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  return hash;
}

class DecodeGolden : public testing::TestWithParam<TypeInfo> {};

TEST_P(DecodeGolden, GivesTheReferenceFloatsBitForBit) {
  const TypeInfo& type = GetParam();
  const std::vector<char> golden = read_golden(type.name);
  if (golden.empty()) GTEST_SKIP() << "the reference package does not decode " << type.name;
  uint32_t header[3];
  ASSERT_GE(golden.size(), sizeof header);
  std::memcpy(header, golden.data(), sizeof header);
  const auto [n_blocks, block_bytes, block_len] = header;
  ASSERT_EQ(block_bytes, type.block_bytes);
  ASSERT_EQ(block_len, type.block_len);
  const char* blocks = golden.data() + sizeof header;
  const char* hashes = blocks + size_t{n_blocks} * block_bytes;
  ASSERT_EQ(golden.size(), sizeof header + n_blocks * (block_bytes + sizeof(uint64_t)) + block_len * sizeof(float));

  std::vector<float> y(size_t{n_blocks} * block_len);
  type.decode(reinterpret_cast<const std::byte*>(blocks), y.data(), y.size());
  const std::vector<uint32_t> bits = bits_of(y);
  std::vector<uint32_t> first(block_len);
  std::memcpy(first.data(), hashes + n_blocks * sizeof(uint64_t), block_len * sizeof(float));
  for (uint32_t i = 0; i < block_len; ++i) EXPECT_EQ(bits[i], first[i]) << "value " << i << " = " << y[i];
  for (uint32_t b = 0; b < n_blocks; ++b) {
    uint64_t expected;
    std::memcpy(&expected, hashes + b * sizeof expected, sizeof expected);
    EXPECT_EQ(fnv1a(&bits[size_t{b} * block_len], block_len * sizeof(float)), expected) << "block " << b;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DecodeGolden, testing::ValuesIn(types().begin(), types().end()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace tsubu
