// Importance matrices in both forms: bytes as llama.cpp's tool writes them, and everything malformed refused.
#include "container/imatrix.h"

#include <limits>

#include "container/fuzz_bodies.h"
#include "container/test_bytes.h"

namespace tsubu {
namespace {

Imatrix example() {
  Imatrix m;
  m.entries["blk.0.attn_q.weight"] = {{2, 4, 6}, {1024}};
  m.entries["blk.0.ffn_up_exps.weight"] = {{512, 1024, 7, 9}, {512, 0}};
  m.datasets = {"cal.txt"};
  m.chunk_count = 2;
  m.chunk_size = 512;
  return m;
}

Bytes legacy(int32_t n_entries, std::string_view name, int32_t n_calls, std::vector<float> values) {
  Bytes b;
  b.add(n_entries).add(static_cast<int32_t>(name.size())).raw(name).add(n_calls);
  b.add(static_cast<int32_t>(values.size()));
  for (const float v : values) b.add(v);
  return b;
}

TEST(Imatrix, GgufFormRoundTrips) {
  TemporaryFolder folder;
  const Imatrix m = example();
  m.save_gguf(folder / "m.gguf");
  const Imatrix back = Imatrix::load(folder / "m.gguf");
  ASSERT_EQ(back.entries.size(), 2u);
  for (const auto& [name, entry] : m.entries) {
    EXPECT_EQ(back.entries.at(name).sum_squares, entry.sum_squares);
    EXPECT_EQ(back.entries.at(name).counts, entry.counts);
  }
  EXPECT_EQ(back.datasets, m.datasets);
  EXPECT_EQ(back.chunk_count, 2u);
  EXPECT_EQ(back.chunk_size, 512u);
  const GgufFile file = GgufFile::open(folder / "m.gguf");
  std::string keys;
  for (const auto& [key, value] : file.metadata().items()) keys += key + " ";
  EXPECT_EQ(keys, "general.type imatrix.datasets imatrix.chunk_count imatrix.chunk_size ");
  EXPECT_EQ(file.find("blk.0.attn_q.weight.in_sum2")->shape, (std::vector<uint64_t>{3}));
  EXPECT_EQ(file.find("blk.0.attn_q.weight.counts")->shape, (std::vector<uint64_t>{1}));
  EXPECT_EQ(file.find("blk.0.ffn_up_exps.weight.in_sum2")->shape, (std::vector<uint64_t>{2, 2}));
  EXPECT_EQ(file.find("blk.0.ffn_up_exps.weight.counts")->shape, (std::vector<uint64_t>{2, 1}));
}

TEST(Imatrix, MeansAreOnesWithoutTokens) {
  const ImatrixEntry e{{512, 1024, 7, 9}, {512, 0}};
  EXPECT_EQ(e.n_cols(), 2u);
  EXPECT_EQ(e.mean_squares(0), (std::vector<float>{1, 2}));
  EXPECT_EQ(e.mean_squares(1), (std::vector<float>{1, 1}));
}

TEST(Imatrix, LegacyFormHasTheKnownBytes) {
  TemporaryFolder folder;
  Imatrix m = example();
  m.entries["without tokens"] = {{1}, {0}};  // left out
  m.save_legacy(folder / "m.dat");
  // Two chunks of 512: mean × 2. One chunk for the experts, and mean 1 for the one without tokens.
  Bytes expected = legacy(2, "blk.0.attn_q.weight", 2, {2.0f / 1024 * 2, 4.0f / 1024 * 2, 6.0f / 1024 * 2});
  Bytes experts = legacy(0, "blk.0.ffn_up_exps.weight", 1, {1, 2, 1, 1});
  expected.raw(std::string_view(experts.text).substr(4)).add<int32_t>(2).add<int32_t>(7).raw("cal.txt");
  const std::string bytes = read_text_file(folder / "m.dat");
  EXPECT_EQ(bytes, expected.text);

  const Imatrix back = Imatrix::load(folder / "m.dat");
  EXPECT_EQ(back.chunk_count, 2u);
  EXPECT_EQ(back.datasets, m.datasets);
  EXPECT_EQ(back.entries.at("blk.0.attn_q.weight").mean_squares(0),
            m.entries.at("blk.0.attn_q.weight").mean_squares(0));
  back.save_legacy(folder / "again.dat");
  EXPECT_EQ(read_text_file(folder / "again.dat"), bytes);
}

TEST(Imatrix, LegacyTrailerIsOptional) {
  const Imatrix m = Imatrix::parse(legacy(1, "a", 0, {3}).span(), "x");
  EXPECT_EQ(m.entries.at("a").mean_squares(0), (std::vector<float>{3}));
  EXPECT_EQ(m.chunk_count, 0u);
}

TEST(Imatrix, MalformedLegacyIsRefused) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  const Bytes two = legacy(2, "a", 1, {1});
  const std::pair<Bytes, const char*> cases[] = {
      {Bytes(), "truncated"},
      {legacy(0, "a", 1, {1}), "number of entries"},
      {legacy(-1, "a", 1, {1}), "number of entries"},
      {legacy(std::numeric_limits<int32_t>::max(), "a", 1, {1}), "number of entries"},
      {Bytes().add<int32_t>(1).add<int32_t>(-1).raw(std::string(32, 'a')), "length of a name"},
      {Bytes().add<int32_t>(1).add<int32_t>(1 << 30).raw(std::string(32, 'a')), "length of a name"},
      {legacy(1, "a", -1, {1}), "number of calls"},
      {Bytes().add<int32_t>(1).add<int32_t>(1).raw("a").add<int32_t>(1).add<int32_t>(-4).add(1.0f), "number of values"},
      {Bytes().add<int32_t>(1).add<int32_t>(1).raw("a").add<int32_t>(1).add<int32_t>(1 << 30).add(1.0f), "number of values"},
      {legacy(1, "a", 1, {kNan}), "finite"},
      {legacy(1, "a", 1, {1, kInf}), "finite"},
      {legacy(1, "a", 1, {-1}), "finite"},
      {Bytes(two).raw(std::string_view(two.text).substr(4)), "every name once"},
      {legacy(1, "a", 1, {1}).add<int32_t>(1).add<int32_t>(9).raw("x"), "data set"},
      {legacy(1, "a", 1, {1}).add<int32_t>(1).add<int32_t>(1).raw("xy"), "end of the file"},
  };
  for (const auto& [bytes, expected] : cases) {
    const std::string message = error_of([&] { Imatrix::parse(bytes.span(), "m.dat"); });
    EXPECT_NE(message.find(expected), std::string::npos) << message << ", expected " << expected;
    EXPECT_TRUE(message.starts_with("m.dat@0x")) << message;
  }
}

TEST(Imatrix, MalformedGgufFormIsRefused) {
  TemporaryFolder folder;
  struct Part { const char* name; std::vector<uint64_t> shape; const char* type; float value; };
  const auto refused = [&](const char* general_type, const std::vector<Part>& parts) {
    GgufWriter writer(folder / "m.gguf");
    writer.metadata().set("general.type", GgufValue::string(general_type));
    for (const Part& p : parts) writer.declare(p.name, p.shape, type_named(p.type));
    writer.begin_data();
    for (const Part& p : parts) {
      uint64_t n = 1;
      for (const uint64_t d : p.shape) n *= d;
      const std::vector<float> values(n, p.value);
      writer.write(std::as_bytes(std::span(values)).first(n * type_named(p.type).block_bytes));
    }
    writer.commit();
    return error_of([&] { Imatrix::load(folder / "m.gguf"); });
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(refused("model", {{"a.in_sum2", {4}, "F32", 1}, {"a.counts", {1}, "F32", 1}}).find("found 'model'"), std::string::npos);
  EXPECT_NE(refused("imatrix", {}).find("found none"), std::string::npos);
  EXPECT_NE(refused("imatrix", {{"a.in_sum2", {4}, "F32", 1}}).find("only one"), std::string::npos);
  EXPECT_NE(refused("imatrix", {{"a.counts", {1}, "F32", 1}}).find("only one"), std::string::npos);
  EXPECT_NE(refused("imatrix", {{"a.in_sum2", {4}, "F16", 1}, {"a.counts", {1}, "F32", 1}}).find("found F16"), std::string::npos);
  EXPECT_NE(refused("imatrix", {{"a.in_sum2", {4}, "F32", kNan}, {"a.counts", {1}, "F32", 1}}).find("finite"), std::string::npos);
  EXPECT_NE(refused("imatrix", {{"a.in_sum2", {4}, "F32", 1}, {"a.counts", {1}, "F32", -1}}).find("finite"), std::string::npos);
  EXPECT_NE(refused("imatrix", {{"a.in_sum2", {4}, "F32", 1}, {"a.counts", {2, 1}, "F32", 1}}).find("one count"), std::string::npos);
  EXPECT_NE(refused("imatrix", {{"a.in_sum2", {4}, "F32", 1}, {"a.counts", {0}, "F32", 1}}).find("one count"), std::string::npos);
}

TEST(Imatrix, EveryPrefixIsRefusedAndNoFlippedByteCrashes) {
  TemporaryFolder folder;
  example().save_gguf(folder / "m.gguf");
  const std::string valid = read_text_file(folder / "m.gguf");
  // The padding after the last tensor (two floats, padded to 32) may be missing.
  check_prefixes_and_flips(valid, try_imatrix, valid.size() - 24);
  // Legacy: the trailer is optional, so a file that ends before it, or after the number of chunks, is whole.
  const Bytes entry = legacy(1, "ab", 2, {1, 2});
  check_prefixes_and_flips(entry.text, try_imatrix, entry.text.size());
}

}  // namespace
}  // namespace tsubu
