// safetensors: reading, every rule of validation, indexes with shards, and a writer that gives the reference's bytes.
#include "container/safetensors.h"

#include <fstream>

#include "container/fuzz_bodies.h"
#include "container/test_bytes.h"

namespace tsubu {
namespace {

std::string file_of(std::string_view header, size_t data_bytes = 0) {
  return Bytes().string(header).raw(std::string(data_bytes, '\x2a')).text;
}

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, uint64_t begin, uint64_t end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
}

// The bytes that the reference implementation (the safetensors Python package, 0.8.0) writes for the content below.
std::string reference_bytes() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"z":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},"e":{"dtype":"BF16","shape":[0,4],"data_offsets":[32,32]},)"
      R"("a":{"dtype":"F16","shape":[2],"data_offsets":[32,36]},"u\"\né)" "\x7f"
      R"(":{"dtype":"U8","shape":[3],"data_offsets":[36,39]}}      )";
  Bytes b;
  b.string(header).add<int64_t>(7);
  for (int i = 0; i < 6; ++i) b.add(static_cast<float>(i));
  b.add<uint16_t>(0x3c00).add<uint16_t>(0xc000).raw("\x01\x02\x03");
  return b.text;
}

TEST(Safetensors, WriterGivesTheReferenceBytes) {
  TemporaryFolder folder;
  const std::string path = folder / "a.safetensors", expected = reference_bytes();
  ASSERT_EQ(expected.size(), 367u);
  SafetensorsWriter writer(path);
  writer.declare("u\"\né\x7f", SafeDtype::kU8, {3});
  writer.declare("a", SafeDtype::kF16, {2});
  writer.declare("e", SafeDtype::kBF16, {0, 4});
  writer.declare("b", SafeDtype::kF32, {2, 3});
  writer.declare("z", SafeDtype::kI64, {});
  EXPECT_EQ(writer.predicted_bytes(), expected.size());
  EXPECT_EQ(writer.begin_data(), (std::vector<std::string>{"z", "b", "e", "a", "u\"\né\x7f"}));
  const auto data = bytes_of(expected).last(39);
  writer.write(data.first(8));
  writer.write(data.subspan(8, 10));  // in pieces
  writer.write(data.subspan(18, 14));
  writer.write(data.subspan(32, 4));
  writer.write(data.subspan(36));
  writer.commit();
  EXPECT_EQ(read_text_file(path), expected);
}

TEST(Safetensors, ReadsTheReferenceBytes) {
  const std::string bytes = reference_bytes();
  const SafetensorsFile file = SafetensorsFile::parse(bytes_of(bytes), "x");
  ASSERT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(file.tensors()[0].name, "z");
  EXPECT_TRUE(file.find("z")->shape.empty());
  EXPECT_EQ(file.find("b")->shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(file.find("b")->dtype, SafeDtype::kF32);
  EXPECT_TRUE(file.find("e")->data.empty());
  EXPECT_EQ(file.find("u\"\né\x7f")->data[2], std::byte{3});
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Safetensors, WriterRefusesWrongUse) {
  TemporaryFolder folder;
  SafetensorsWriter writer(folder / "a");
  writer.declare("a", SafeDtype::kF32, {1});
  error_of([&] { writer.declare("a", SafeDtype::kF32, {1}); });
  error_of([&] { writer.declare("__metadata__", SafeDtype::kF32, {1}); });
  error_of([&] { writer.declare("half a byte", SafeDtype::kF4, {1}); });
  error_of([&] { writer.declare("huge", SafeDtype::kF32, {1ull << 32, 1ull << 32}); });
  error_of([&] { writer.write(bytes_of("1234")); }, ExitCode::kIo);
  writer.begin_data();
  error_of([&] { writer.write(bytes_of("12345")); }, ExitCode::kIo);
  EXPECT_NE(error_of([&] { writer.commit(); }, ExitCode::kIo).find("'a'"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  SafetensorsWriter bad_name(folder / "b");
  bad_name.declare("\xff", SafeDtype::kU8, {0});
  error_of([&] { bad_name.begin_data(); });
}

TEST(Safetensors, DtypesAreInTheReferenceOrder) {
  EXPECT_EQ(safe_dtype_name(SafeDtype::kBool), "BOOL");
  EXPECT_EQ(safe_dtype_name(SafeDtype::kU64), "U64");
  uint32_t bits_before = 0;
  for (int i = static_cast<int>(SafeDtype::kF4); i <= static_cast<int>(SafeDtype::kU64); ++i) {
    const auto dtype = static_cast<SafeDtype>(i);
    EXPECT_EQ(find_safe_dtype(safe_dtype_name(dtype)), dtype);
    EXPECT_GE(safe_dtype_bits(dtype), bits_before) << safe_dtype_name(dtype);
    bits_before = safe_dtype_bits(dtype);
  }
  EXPECT_EQ(find_safe_dtype("F3"), std::nullopt);
}

TEST(Safetensors, AcceptsWhatTheReferenceAccepts) {
  const std::string a = entry("a", "U8", "1", 0, 1);
  for (const std::string& bytes : {
           file_of("{}"), file_of("{" + a + "}   ", 1), file_of(R"({"__metadata__":{}})"),
           file_of(R"({"__metadata__":null})"), file_of("{" + entry("a", "F4", "4", 0, 2) + "}", 2),
           file_of("{" + entry("b", "U8", "1", 1, 2) + "," + a + "}", 2),
           file_of("{" + entry("e", "F32", "0,7", 0, 0) + "}"), file_of("{" + entry("s", "F32", "", 0, 4) + "}", 4),
           file_of(R"({"a":{"more":[{"x":[1,null]}],"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1)})
    EXPECT_TRUE(try_safetensors(bytes_of(bytes))) << bytes.substr(8);
}

TEST(Safetensors, MalformedIsRefusedWithPlaceAndReason) {
  struct Case { const char* name; std::string bytes; const char* expected; };
  const std::string a = entry("a", "U8", "1", 0, 1);
  const std::vector<Case> cases = {
      {"empty file", "", "header length"},
      {"header length beyond the file", Bytes().add<uint64_t>(100).raw("{}").text, "expected 100 bytes, found 2"},
      {"header length over the limit", Bytes().add<uint64_t>(100'000'001).raw("{}").text, "at most 100000000"},
      {"header length 2^64-1", Bytes().add<uint64_t>(UINT64_MAX).raw("{}").text, "at most 100000000"},
      {"header of 0 bytes", file_of(""), "begin with '{'"},
      {"leading space", file_of(" {}"), "begin with '{'"},
      {"not JSON", file_of("{oops"), "valid JSON"},
      {"text after the object", file_of("{} x"), "valid JSON"},
      {"NUL padding", file_of(std::string("{}\0\0", 4)), "NUL"},
      {"invalid UTF-8", file_of("{\"\xff\":{}}"), "valid JSON"},
      {"duplicate tensor", file_of("{" + a + "," + entry("a", "U8", "1", 1, 2) + "}", 2), "every name once"},
      {"duplicate field", file_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1), "once"},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})"), "once"},
      {"metadata key twice", file_of(R"({"__metadata__":{"k":"1","k":"2"}})"), "'k' once"},
      {"metadata number", file_of(R"({"__metadata__":{"k":1}})"), "strings only"},
      {"metadata nested", file_of(R"({"__metadata__":{"k":{"j":"1"}}})"), "strings only"},
      {"metadata list", file_of(R"({"__metadata__":[]})"), "an object"},
      {"tensor is a number", file_of(R"({"a":1})"), "expected an object"},
      {"tensor is null", file_of(R"({"a":null})"), "expected an object"},
      {"unknown dtype", file_of("{" + entry("a", "F31", "1", 0, 4) + "}", 4), "known dtype"},
      {"no dtype", file_of(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1), "no dtype"},
      {"no shape", file_of(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1), "no shape"},
      {"no offsets", file_of(R"({"a":{"dtype":"U8","shape":[1]}})", 1), "no data_offsets"},
      {"three offsets", file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 1), "two numbers"},
      {"end before begin", file_of("{" + entry("a", "U8", "1", 1, 0) + "}", 1), "begin and end"},
      {"negative dimension", file_of("{" + entry("a", "U8", "-1", 0, 1) + "}", 1), "unsigned integers"},
      {"fractional dimension", file_of("{" + entry("a", "U8", "1.0", 0, 1) + "}", 1), "unsigned integers"},
      {"dimension of 2^64", file_of("{" + entry("a", "U8", "18446744073709551616", 0, 1) + "}", 1), "unsigned integers"},
      {"shape that wraps to 0", file_of("{" + entry("a", "U8", "4294967296,4294967296", 0, 0) + "}"), "whole number"},
      {"shape that wraps behind a 0", file_of("{" + entry("a", "U8", "0,4294967296,4294967296", 0, 0) + "}"), "whole number"},
      {"half a byte", file_of("{" + entry("a", "F4", "3", 0, 1) + "}", 1), "whole number"},
      {"size and shape differ", file_of("{" + entry("a", "F32", "2", 0, 4) + "}", 4), "expected 8 bytes"},
      {"hole at the start", file_of("{" + entry("a", "U8", "1", 1, 2) + "}", 2), "a hole"},
      {"hole between", file_of("{" + a + "," + entry("b", "U8", "1", 2, 3) + "}", 3), "a hole"},
      {"overlap", file_of("{" + entry("a", "U8", "2", 0, 2) + "," + entry("b", "U8", "2", 1, 3) + "}", 3), "an overlap"},
      {"bytes after the last tensor", file_of("{" + a + "}", 2), "1 more bytes"},
      {"bytes without tensors", file_of("{}", 1), "1 more bytes"},
      {"data beyond the end", file_of("{" + entry("a", "U8", "2", 0, 2) + "}", 1), "truncated"},
      {"offsets near 2^64", file_of("{" + entry("a", "U8", "1", 18446744073709551614u, 18446744073709551615u) + "}", 1),
       "a hole"},
      {"nested 100 deep", file_of(R"({"a":{"x":)" + std::string(100, '[') + std::string(100, ']') + "}}"), "nested"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const std::string message = error_of([&] { SafetensorsFile::parse(bytes_of(c.bytes), "dir/x"); });
    EXPECT_TRUE(message.starts_with("dir/x")) << message;
    EXPECT_NE(message.find(c.expected), std::string::npos) << message;
  }
}

TEST(Safetensors, EveryPrefixIsRefusedAndNoFlippedByteCrashes) {
  const std::string valid = reference_bytes();
  check_prefixes_and_flips(valid, try_safetensors, valid.size());
}

void write_shard(const std::string& path, const std::vector<std::string>& names) {
  SafetensorsWriter writer(path);
  for (const std::string& name : names) writer.declare(name, SafeDtype::kU8, {4});
  for (const std::string& name : writer.begin_data()) writer.write(bytes_of(std::string(4, name[0])));
  writer.commit();
}

TEST(SafetensorsIndex, OpensAllShards) {
  TemporaryFolder folder;
  write_shard(folder / "model-00001-of-00002.safetensors", {"a", "b"});
  write_shard(folder / "model-00002-of-00002.safetensors", {"c"});
  const std::string index = folder / "model.safetensors.index.json";
  write_text_file(index, R"({"metadata":{},"weight_map":{"c":"model-00002-of-00002.safetensors",
      "a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors"}})");
  for (const std::string& path : {index, folder.path().string()}) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    ASSERT_EQ(file.tensors().size(), 3u);
    EXPECT_EQ(file.paths().size(), 2u);
    EXPECT_EQ(file.find("c")->shard, 1u);
    EXPECT_EQ(file.find("c")->data[3], std::byte{'c'});
    EXPECT_EQ(file.metadata().at("format"), "pt");
  }
  write_shard(folder / "model.safetensors", {"x"});  // a single file goes first
  EXPECT_EQ(SafetensorsFile::open(folder.path().string()).tensors().size(), 1u);
}

TEST(SafetensorsIndex, RefusesWhatDoesNotFitTogether) {
  TemporaryFolder folder;
  const auto refused = [&](const std::string& index) {
    write_text_file(folder / "model.safetensors.index.json", index);
    return error_of([&] { SafetensorsFile::open(folder.path().string()); });
  };
  write_shard(folder / "1", {"a"});
  write_shard(folder / "2", {"b"});
  const std::pair<const char*, const char*> cases[] = {
      {R"({"weight_map":{"a":"1","b":"3"}})", "3 is missing"},
      {R"({"weight_map":{"a":"1","c":"2"}})", "found it in no shard"},
      {R"({"weight_map":{"a":"2","b":"1"}})", "'a': expected it in 2"},
      {R"({"weight_map":{"a":"../1"}})", "plain file name"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "plain file name"},
      {R"({"weight_map":{"a":".."}})", "plain file name"},
      {R"({"weight_map":{"a":""}})", "plain file name"},
      {R"({"weight_map":{"a":"x\\y"}})", "plain file name"},
      {R"({"weight_map":{"a":"x\u0000"}})", "plain file name"},
      {R"({"weight_map":{"a":"1","a":"2"}})", "'a' once"},
      {R"({"weight_map":{},"weight_map":{}})", "weight_map once"},
      {R"({"weight_map":{"a":1}})", "a file name"},
      {R"({"weight_map":[]})", "an object"},
      {R"({"metadata":{}})", "found none"},
      {R"([])", "an object"},
      {R"({"weight_map")", "valid JSON"},
  };
  for (const auto& [index, expected] : cases) {
    const std::string message = refused(index);
    EXPECT_NE(message.find(expected), std::string::npos) << index << "\n" << message;
  }
  write_shard(folder / "2", {"a"});
  EXPECT_NE(refused(R"({"weight_map":{"a":"1","b":"2"}})").find("in one shard"), std::string::npos);
  std::filesystem::remove(folder / "model.safetensors.index.json");
  EXPECT_NE(error_of([&] { SafetensorsFile::open(folder.path().string()); }).find("neither"), std::string::npos);
}

}  // namespace
}  // namespace tsubu
