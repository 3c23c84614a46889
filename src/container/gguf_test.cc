// GGUF: values, round trips through the writer, files in several shards.
#include "container/gguf.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <cmath>

#include "container/test_bytes.h"

namespace tsubu {
namespace {

using Type = GgufValueType;

std::vector<std::byte> pattern(size_t n, unsigned seed) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>((i * 37 + seed * 101 + 11) & 0xff);
  return bytes;
}

Bytes every_value_type() {
  Bytes b;
  b.raw("GGUF").add<uint32_t>(3).add<uint64_t>(0).add<uint64_t>(15);
  b.string("u8").add(Type::kU8).add<uint8_t>(200);
  b.string("i8").add(Type::kI8).add<int8_t>(-100);
  b.string("u16").add(Type::kU16).add<uint16_t>(60000);
  b.string("i16").add(Type::kI16).add<int16_t>(-30000);
  b.string("u32").add(Type::kU32).add<uint32_t>(4000000000u);
  b.string("i32").add(Type::kI32).add<int32_t>(-2000000000);
  b.string("f32").add(Type::kF32).add<float>(0.1f);
  b.string("bool").add(Type::kBool).add<uint8_t>(1);
  b.string("text").add(Type::kString).string("grain 粒");
  b.string("u64").add(Type::kU64).add<uint64_t>(UINT64_MAX);
  b.string("i64").add(Type::kI64).add<int64_t>(INT64_MIN);
  b.string("f64").add(Type::kF64).add<double>(0.1);
  b.string("numbers").add(Type::kArray).add(Type::kI16).add<uint64_t>(3).add<int16_t>(-1).add<int16_t>(0).add<int16_t>(9);
  b.string("words").add(Type::kArray).add(Type::kString).add<uint64_t>(2).string("").string("ab");
  b.string("nested").add(Type::kArray).add(Type::kArray).add<uint64_t>(2);
  b.add(Type::kF32).add<uint64_t>(1).add<float>(1.5f);
  b.add(Type::kString).add<uint64_t>(1).string("deep");
  return b;
}

TEST(Gguf, ReadsEveryValueType) {
  const Bytes b = every_value_type();
  const GgufFile file = GgufFile::parse(b.span(), "x.gguf");
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.alignment(), 32u);
  ASSERT_EQ(m.items().size(), 15u);
  EXPECT_EQ(m.find("u8")->as_uint(), 200u);
  EXPECT_EQ(m.find("i8")->as_int(), -100);
  EXPECT_EQ(m.find("u16")->as_uint(), 60000u);
  EXPECT_EQ(m.find("i16")->as_int(), -30000);
  EXPECT_EQ(m.find("u32")->as_int(), 4000000000);
  EXPECT_EQ(m.find("i32")->as_number(), -2e9);
  EXPECT_EQ(m.find("f32")->as_number(), static_cast<double>(0.1f));
  EXPECT_EQ(m.find("bool")->as_bool(), true);
  EXPECT_EQ(*m.find("text")->as_string(), "grain 粒");
  EXPECT_EQ(m.find("u64")->as_uint(), UINT64_MAX);
  EXPECT_EQ(m.find("i64")->as_int(), INT64_MIN);
  EXPECT_EQ(m.find("f64")->as_number(), 0.1);
  EXPECT_EQ(m.find("numbers")->as_ints(), (std::vector<int64_t>{-1, 0, 9}));
  EXPECT_EQ(m.find("numbers")->as_numbers(), (std::vector<double>{-1, 0, 9}));
  EXPECT_EQ(m.find("words")->as_array()->strings, (std::vector<std::string>{"", "ab"}));
  const GgufArray& nested = *m.find("nested")->as_array();
  ASSERT_EQ(nested.size(), 2u);
  EXPECT_EQ(nested.arrays[0].size(), 1u);
  EXPECT_EQ(nested.arrays[1].strings[0], "deep");
  EXPECT_EQ(m.find("absent"), nullptr);
}

TEST(Gguf, WideningReadsRefuseWhatDoesNotFit) {
  EXPECT_EQ(GgufValue::i32(-1).as_uint(), std::nullopt);
  EXPECT_EQ(GgufValue::u64(UINT64_MAX).as_int(), std::nullopt);
  EXPECT_EQ(GgufValue::f32(1).as_int(), std::nullopt);
  EXPECT_EQ(GgufValue::boolean(true).as_uint(), std::nullopt);
  EXPECT_EQ(GgufValue::boolean(true).as_number(), std::nullopt);
  EXPECT_EQ(GgufValue::string("1").as_uint(), std::nullopt);
  EXPECT_EQ(GgufValue::u32(1).as_bool(), std::nullopt);
  EXPECT_EQ(GgufValue::u32(1).as_string(), nullptr);
  EXPECT_TRUE(GgufValue::strings({"a"}).as_ints().empty());
  const float floats[] = {1, 2};
  EXPECT_TRUE(GgufValue::f32s(floats).as_ints().empty());
  EXPECT_EQ(GgufValue::f32s(floats).as_numbers(), (std::vector<double>{1, 2}));
}

TEST(Gguf, MetadataKeepOrderAndReplaceInPlace) {
  GgufMetadata m;
  for (const char* key : {"c", "a", "b"}) m.set(key, GgufValue::u32(1));
  m.set("a", GgufValue::string("x"));
  m.erase("c");
  m.erase("absent");
  m.set("d", GgufValue::u32(4));
  std::string order;
  for (const auto& [key, value] : m.items()) order += key;
  EXPECT_EQ(order, "abd");
  EXPECT_EQ(*m.find("a")->as_string(), "x");
  EXPECT_EQ(m.find("d")->as_uint(), 4u);
  EXPECT_EQ(m.find("c"), nullptr);
}

TEST(Gguf, JsonAbbreviatesLongArrays) {
  const Bytes b = every_value_type();
  const GgufFile file = GgufFile::parse(b.span(), "x.gguf");
  const Json json = file.metadata().to_json(2);
  EXPECT_EQ(json["u64"], UINT64_MAX);
  EXPECT_EQ(json["numbers"]["size"], 3);
  EXPECT_EQ(json["numbers"]["type"], "i16");
  EXPECT_EQ(json["numbers"]["first"], Json::parse("[-1,0]"));
  EXPECT_EQ(json["words"], Json::parse(R"(["","ab"])"));
  EXPECT_EQ(file.metadata().to_json(0)["numbers"], Json::parse("[-1,0,9]"));
  EXPECT_EQ(file.metadata().to_json(0)["nested"], Json::parse(R"([[1.5],["deep"]])"));
}

// The layout as the specification has it; make_interop's files are compared with gguf-py's own.
TEST(Gguf, WriterGivesTheSpecifiedBytes) {
  TemporaryFolder folder;
  GgufWriter writer(folder / "a.gguf");
  writer.metadata().set("general.architecture", GgufValue::string("llama"));
  writer.metadata().set("n", GgufValue::u32(7));
  writer.metadata().set("on", GgufValue::boolean(true));
  writer.metadata().set("w", GgufValue::strings({"a", "bc"}));
  writer.declare("t", {2, 3}, type_named("F32"));
  writer.declare("v", {5}, type_named("F16"));
  writer.begin_data();
  const float t[] = {0, 1, 2, 3, 4, 5};
  const uint16_t v[] = {0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00};
  writer.write(std::as_bytes(std::span(t)));
  writer.write(std::as_bytes(std::span(v)));
  writer.commit();

  Bytes e;
  e.raw("GGUF").add<uint32_t>(3).add<uint64_t>(2).add<uint64_t>(4);
  e.string("general.architecture").add(Type::kString).string("llama");
  e.string("n").add(Type::kU32).add<uint32_t>(7);
  e.string("on").add(Type::kBool).add<uint8_t>(1);
  e.string("w").add(Type::kArray).add(Type::kString).add<uint64_t>(2).string("a").string("bc");
  e.string("t").add<uint32_t>(2).add<uint64_t>(3).add<uint64_t>(2).add<uint32_t>(0).add<uint64_t>(0);
  e.string("v").add<uint32_t>(1).add<uint64_t>(5).add<uint32_t>(1).add<uint64_t>(32);
  e.pad_to(32);
  for (const float f : t) e.add(f);
  e.pad_to(32);
  for (const uint16_t h : v) e.add(h);
  e.pad_to(32);
  EXPECT_EQ(read_text_file(folder / "a.gguf"), e.text);
}

TEST(Gguf, CopyingAFileChangesNothing) {
  TemporaryFolder folder;
  const Bytes metadata_only = every_value_type();
  const GgufFile values = GgufFile::parse(metadata_only.span(), "values");
  struct Wanted { const char* name; std::vector<uint64_t> shape; const char* type; };
  const std::vector<Wanted> wanted = {{"scalar", {}, "F32"}, {"empty", {0, 32}, "F16"}, {"cube", {2, 3, 64}, "Q8_0"},
                                      {"odd", {3}, "F16"}, {"4d", {2, 1, 2, 256}, "Q4_K"}, {"last", {7}, "I8"}};
  for (const uint64_t alignment : {0, 1, 8, 64}) {
    const std::string first = folder / "first.gguf", second = folder / "second.gguf";
    {
      GgufWriter writer(first);
      for (const auto& [key, value] : values.metadata().items()) writer.metadata().set(key, value);
      if (alignment) writer.metadata().set("general.alignment", GgufValue::u32(static_cast<uint32_t>(alignment)));
      for (const Wanted& w : wanted) writer.declare(w.name, w.shape, type_named(w.type));
      const uint64_t predicted = writer.predicted_bytes();
      writer.begin_data();
      for (size_t i = 0; i < wanted.size(); ++i) {
        uint64_t n = 1;
        for (const uint64_t d : wanted[i].shape) n *= d;
        const TypeInfo& type = type_named(wanted[i].type);
        const auto data = pattern(n / type.block_len * type.block_bytes, static_cast<unsigned>(i));
        const std::span<const std::byte> all(data);
        writer.write(all.first(all.size() / 3));  // in pieces
        writer.write(all.subspan(all.size() / 3));
      }
      writer.commit();
      EXPECT_EQ(std::filesystem::file_size(first), predicted);
      EXPECT_EQ(writer.size_bytes(), predicted);
    }
    const GgufFile file = GgufFile::open(first);
    EXPECT_EQ(file.alignment(), alignment ? alignment : 32);
    ASSERT_EQ(file.tensors().size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      const GgufTensor& t = file.tensors()[i];
      EXPECT_EQ(t.name, wanted[i].name);
      EXPECT_EQ(t.shape, wanted[i].shape);
      EXPECT_EQ(t.type->name, wanted[i].type);
      EXPECT_EQ(t.offset % file.alignment(), 0u);
      const auto expected = pattern(t.data.size(), static_cast<unsigned>(i));
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), t.data.begin(), t.data.end())) << t.name;
    }
    GgufWriter copy(second);
    for (const auto& [key, value] : file.metadata().items()) copy.metadata().set(key, value);
    for (const GgufTensor& t : file.tensors()) copy.declare(t.name, t.shape, *t.type);
    copy.begin_data();
    for (const GgufTensor& t : file.tensors()) copy.write(t.data);
    copy.commit();
    EXPECT_EQ(read_text_file(first), read_text_file(second));
  }
}

TEST(Gguf, WriterRefusesWrongUse) {
  TemporaryFolder folder;
  const TypeInfo& f32 = type_named("F32");
  GgufWriter writer(folder / "a.gguf");
  writer.declare("a", {2}, f32);
  EXPECT_NE(error_of([&] { writer.declare("a", {2}, f32); }).find("'a'"), std::string::npos);
  EXPECT_NE(error_of([&] { writer.declare("b", {33}, type_named("Q8_0")); }).find("multiple of 32"), std::string::npos);
  EXPECT_NE(error_of([&] { writer.declare("b", {1, 1, 1, 1, 1}, f32); }).find("at most 4"), std::string::npos);
  EXPECT_NE(error_of([&] { writer.declare("b", {1ull << 40, 1ull << 40}, f32); }).find("2^63"), std::string::npos);
  error_of([&] { writer.write(pattern(4, 0)); }, ExitCode::kIo);
  writer.metadata().set("general.alignment", GgufValue::u32(24));
  EXPECT_NE(error_of([&] { writer.begin_data(); }).find("power of two"), std::string::npos);
  writer.metadata().erase("general.alignment");
  writer.begin_data();
  writer.write(pattern(4, 0));
  EXPECT_NE(error_of([&] { writer.write(pattern(5, 0)); }, ExitCode::kIo).find("expected 4 more"), std::string::npos);
  EXPECT_NE(error_of([&] { writer.commit(); }, ExitCode::kIo).find("'a'"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "a.gguf"));
}

void write_shard(const std::string& path, int no, int count, int n_tensors, const std::vector<std::string>& names) {
  GgufWriter writer(path);
  if (no == 0) writer.metadata().set("general.name", GgufValue::string("split"));
  const auto u16 = [](int v) { return GgufValue{Type::kU16, static_cast<uint64_t>(v)}; };
  writer.metadata().set("split.no", u16(no));
  writer.metadata().set("split.count", u16(count));
  writer.metadata().set("split.tensors.count", GgufValue::i32(n_tensors));
  for (const std::string& name : names) writer.declare(name, {3}, type_named("F32"));
  writer.begin_data();
  for (const std::string& name : names) writer.write(pattern(12, static_cast<unsigned>(name[0])));
  writer.commit();
}

TEST(GgufSplit, AnyShardOpensAll) {
  TemporaryFolder folder;
  write_shard(folder / "m-00001-of-00003.gguf", 0, 3, 4, {});
  write_shard(folder / "m-00002-of-00003.gguf", 1, 3, 4, {"a", "b"});
  write_shard(folder / "m-00003-of-00003.gguf", 2, 3, 4, {"c", "d"});
  for (const char* name : {"m-00001-of-00003.gguf", "m-00003-of-00003.gguf"}) {
    const GgufFile file = GgufFile::open(folder / name);
    EXPECT_EQ(file.paths().size(), 3u);
    ASSERT_EQ(file.tensors().size(), 4u);
    EXPECT_EQ(file.find("d")->shard, 2u);
    EXPECT_EQ(file.find("a")->shard, 1u);
    EXPECT_EQ(file.find("d")->data[0], pattern(1, 'd')[0]);
    EXPECT_EQ(*file.metadata().find("general.name")->as_string(), "split");
    EXPECT_EQ(file.metadata().find("split.no"), nullptr);
    EXPECT_EQ(file.metadata().find("split.count"), nullptr);
    EXPECT_EQ(file.metadata().find("split.tensors.count"), nullptr);
    uint64_t total = 0;
    for (const std::string& path : file.paths()) total += std::filesystem::file_size(path);
    EXPECT_EQ(file.file_bytes(), total);
  }
}

TEST(GgufSplit, RefusesWhatDoesNotFitTogether) {
  TemporaryFolder folder;
  const auto refused = [&](const std::string& name) { return error_of([&] { GgufFile::open(folder / name); }); };
  write_shard(folder / "m-00001-of-00002.gguf", 0, 2, 2, {"a"});
  EXPECT_NE(refused("m-00001-of-00002.gguf").find("m-00002-of-00002.gguf: shard 2 of 2 is missing"), std::string::npos);
  write_shard(folder / "m-00002-of-00002.gguf", 1, 2, 2, {"a"});
  EXPECT_NE(refused("m-00001-of-00002.gguf").find("'a': expected every name once"), std::string::npos);
  write_shard(folder / "m-00002-of-00002.gguf", 0, 2, 2, {"b"});
  EXPECT_NE(refused("m-00001-of-00002.gguf").find("split.no: expected 1"), std::string::npos);
  write_shard(folder / "m-00002-of-00002.gguf", 1, 3, 2, {"b"});
  EXPECT_NE(refused("m-00001-of-00002.gguf").find("split.count: expected 2"), std::string::npos);
  write_shard(folder / "m-00002-of-00002.gguf", 1, 2, 2, {"b", "c"});
  EXPECT_NE(refused("m-00002-of-00002.gguf").find("split.tensors.count: expected 2 tensors"), std::string::npos);
  write_shard(folder / "m-00002-of-00002.gguf", 1, 2, 2, {"b"});
  EXPECT_EQ(GgufFile::open(folder / "m-00002-of-00002.gguf").tensors().size(), 2u);
  std::filesystem::rename(folder / "m-00001-of-00002.gguf", folder / "m.gguf");
  EXPECT_NE(refused("m.gguf").find("one of 2 shards"), std::string::npos);
  // A name alone makes no shard.
  GgufWriter single(folder / "s-00001-of-00009.gguf");
  single.commit();
  EXPECT_TRUE(GgufFile::open(folder / "s-00001-of-00009.gguf").tensors().empty());
}

// A hundred gigabytes in shards, as sparse files: opening reads the headers alone.
TEST(GgufSplit, OpensShardsOfAnySizeByTheirHeaders) {
  TemporaryFolder folder;
  constexpr int kShards = 4, kTensors = 100;
  constexpr uint64_t kRows = 32768, kCols = 4096;  // 256 MiB of F16
  uint64_t total = 0;
  for (int no = 0; no < kShards; ++no) {
    GgufLayout layout;
    const auto u16 = [](int v) { return GgufValue{Type::kU16, static_cast<uint64_t>(v)}; };
    layout.metadata().set("split.no", u16(no));
    layout.metadata().set("split.count", u16(kShards));
    layout.metadata().set("split.tensors.count", GgufValue::i32(kShards * kTensors));
    for (int t = 0; t < kTensors; ++t) layout.declare(fmt::format("blk.{}.{}", no, t), {kRows, kCols}, type_named("F16"));
    const std::string path = folder / fmt::format("m-{:05}-of-{:05}.gguf", no + 1, kShards);
    write_text_file(path, layout.header());
    std::error_code error;
    std::filesystem::resize_file(path, layout.file_bytes(), error);
    if (error) GTEST_SKIP() << "no sparse files here: " << error.message();
    total += layout.file_bytes();
  }
  ASSERT_GT(total, uint64_t{100} << 30);
  const auto faults = [] {
    struct rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
  };
  const long before = faults();
  const GgufFile file = GgufFile::open(folder / "m-00003-of-00004.gguf");
  EXPECT_LT(faults() - before, 2000);  // pages of data: 26 million
  EXPECT_EQ(file.file_bytes(), total);
  ASSERT_EQ(file.tensors().size(), static_cast<size_t>(kShards * kTensors));
  EXPECT_EQ(file.tensors().back().data.size(), kRows * kCols * 2);
  EXPECT_EQ(file.tensors().back().data.back(), std::byte{0});
}

TEST(Gguf, MissingFileIsAnIoError) { error_of([] { GgufFile::open("/nonexistent/x.gguf"); }, ExitCode::kIo); }

}  // namespace
}  // namespace tsubu
