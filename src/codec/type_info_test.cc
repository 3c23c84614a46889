#include "codec/type_info.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/error.h"

namespace tsubu {
namespace {

TEST(TypeInfo, NamesIdsAndIndicesAreUnique) {
  std::set<std::string_view> names;
  std::set<uint32_t> ids;
  uint32_t index = 0;
  for (const TypeInfo& type : types()) {
    EXPECT_TRUE(names.insert(type.name).second) << type.name;
    EXPECT_TRUE(ids.insert(type.gguf_id).second) << type.name;
    EXPECT_EQ(type.index, index++) << type.name;
    EXPECT_NE(type.decode, nullptr) << type.name;
    EXPECT_FALSE(type.summary.empty()) << type.name;
    EXPECT_EQ(type.encode != nullptr && type.name != "F32", type.max_relative_error > 0) << type.name;
    EXPECT_EQ(find_type(type.gguf_id), &type);
    EXPECT_EQ(find_type(type.name), &type);
  }
}

TEST(TypeInfo, FactsOfKnownTypes) {
  EXPECT_DOUBLE_EQ(type_named("q4_k").bits_per_weight(), 4.5);
  EXPECT_DOUBLE_EQ(type_named("Q6_K").bits_per_weight(), 6.5625);
  EXPECT_DOUBLE_EQ(type_named("iq4_xs").bits_per_weight(), 4.25);
  EXPECT_DOUBLE_EQ(type_named("bf16").bits_per_weight(), 16);
  EXPECT_EQ(type_named("Q8_0").gguf_id, 8u);
  EXPECT_EQ(find_type(4u), nullptr);  // an id ggml retired
  EXPECT_EQ(find_type("Q4_2"), nullptr);
}

TEST(TypeInfo, FallbacksAreWrittenInSmallerBlocks) {
  size_t n = 0;
  for (const TypeInfo& type : types()) {
    if (type.fallback.empty()) continue;
    ++n;
    const TypeInfo* instead = find_type(type.fallback);
    ASSERT_NE(instead, nullptr) << type.name;
    EXPECT_NE(instead->encode, nullptr) << type.name;
    EXPECT_LT(instead->block_len, type.block_len) << type.name;
  }
  EXPECT_EQ(n, 15u);
  EXPECT_EQ(type_named("Q4_K").fallback, "Q5_0");
  EXPECT_EQ(type_named("Q8_0").fallback, "");
}

TEST(TypeInfo, UnknownNameSuggestsTheNearest) {
  try {
    type_named("Q4K");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_STREQ(error.what(), "unknown type 'Q4K': did you mean Q4_K? (tsubu types lists them)");
  }
}

TEST(TypeInfo, TensorBytes) {
  EXPECT_EQ(tensor_bytes(type_named("Q4_K"), 3, 512), 3u * 2 * 144);
  EXPECT_EQ(tensor_bytes(type_named("F32"), 0, 7), 0u);
  EXPECT_THROW(tensor_bytes(type_named("Q4_K"), 1, 100), Error);
  EXPECT_THROW(tensor_bytes(type_named("F32"), uint64_t{1} << 40, uint64_t{1} << 30), Error);
}

}  // namespace
}  // namespace tsubu
