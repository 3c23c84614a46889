// GGUF files that must be refused: each with the place and the reason, none with a crash or a large allocation. Among
// them are the shapes of published holes in other readers: CVE-2024-21802, -21825, -21836, -23496, CVE-2025-53630,
// CVE-2026-27940 (counts, lengths, shapes and offsets that overflow).
#include <limits>

#include "container/fuzz_bodies.h"
#include "container/test_bytes.h"

namespace tsubu {
namespace {

using Type = GgufValueType;
constexpr uint32_t kF32 = 0, kQ8_0 = 8;

Bytes header(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3) {
  Bytes b;
  b.raw("GGUF").add(version).add(n_tensors).add(n_keys);
  return b;
}

struct Tensor {
  std::string name = "t";
  std::vector<uint64_t> ne = {4};  // innermost first, as in the file
  uint32_t type = kF32;
  uint64_t offset = 0;
};

Bytes with_tensors(const std::vector<Tensor>& tensors, size_t data_bytes) {
  Bytes b = header(tensors.size(), 0);
  for (const Tensor& t : tensors) {
    b.string(t.name).add(static_cast<uint32_t>(t.ne.size()));
    for (const uint64_t d : t.ne) b.add(d);
    b.add(t.type).add(t.offset);
  }
  b.pad_to(32);
  b.text.resize(b.text.size() + data_bytes);
  return b;
}

Bytes with_alignment(uint32_t alignment) {
  Bytes b = header(0, 1);
  b.string("general.alignment").add(Type::kU32).add(alignment);
  return b;
}

Bytes arrays_nested(int depth) {
  Bytes b = header(0, 1);
  b.string("k").add(Type::kArray);
  for (int i = 1; i < depth; ++i) b.add(Type::kArray).add<uint64_t>(1);
  b.add(Type::kU8).add<uint64_t>(0);
  return b;
}

struct Case {
  std::string name;
  Bytes bytes;
  std::string expected;  // a part of the message
};

std::vector<Case> malformed() {
  constexpr uint64_t kHuge = uint64_t{1} << 63, kMax = std::numeric_limits<uint64_t>::max();
  std::vector<Case> cases;
  const auto add = [&](const char* name, const Bytes& b, const char* expected) { cases.push_back({name, b, expected}); };
  add("wrong magic", Bytes().raw("GGML").add<uint32_t>(3).add<uint64_t>(0).add<uint64_t>(0), "@0x0: magic");
  add("version 0", header(0, 0, 0), "@0x4: version");
  add("key count 2^63", header(0, kHuge).raw(std::string(64, 'x')), "metadata count: expected at most 4");
  add("tensor count 2^63", header(kHuge, 0).raw(std::string(64, 'x')), "tensor count");
  add("tensor count that wraps with its size", header(kMax / 24 + 2, 0), "tensor count");
  add("key length 2^64-1", header(0, 1).add<uint64_t>(kMax).raw(std::string(32, 'x')), "metadata key");
  add("key length one too long", header(0, 1).add<uint64_t>(6).raw("abcde"), "metadata key: expected at most 5");
  add("key longer than 65535", header(0, 1).string(std::string(65536, 'k')).add(Type::kU8).add<uint8_t>(1), "65535");
  add("string length 2^64-1", header(0, 1).string("k").add(Type::kString).add<uint64_t>(kMax), "string value");
  add("string length 2^64-8", header(0, 1).string("k").add(Type::kString).add<uint64_t>(kMax - 7), "string value");
  add("value type 13", header(0, 1).string("k").add<uint32_t>(13).add<uint64_t>(0), "value type from 0 to 12");
  add("bool of 2", header(0, 1).string("k").add(Type::kBool).add<uint8_t>(2), "bool of 0 or 1, found 2");
  add("bool of 3 in an array", header(0, 1).string("k").add(Type::kArray).add(Type::kBool).add<uint64_t>(2)
      .add<uint8_t>(1).add<uint8_t>(3), "found 3");
  add("array count × size wraps", header(0, 1).string("k").add(Type::kArray).add(Type::kU64).add<uint64_t>(kHuge / 4 + 1)
      .add<uint64_t>(0), "array length: expected at most 1");
  add("array of 2^61 strings", header(0, 1).string("k").add(Type::kArray).add(Type::kString).add<uint64_t>(kHuge / 4)
      .add<uint64_t>(0), "array length");
  add("array of 2^64-1 arrays", header(0, 1).string("k").add(Type::kArray).add(Type::kArray).add<uint64_t>(kMax)
      .add<uint64_t>(0), "array length");
  add("array element type 99", header(0, 1).string("k").add(Type::kArray).add<uint32_t>(99).add<uint64_t>(0), "found 99");
  add("arrays nested 5 deep", arrays_nested(5), "nested at most 4");
  add("arrays nested 1000 deep", arrays_nested(1000), "nested at most 4");
  add("duplicate key", header(0, 2).string("k").add(Type::kU8).add<uint8_t>(1).string("k").add(Type::kU8)
      .add<uint8_t>(2), "key 'k': expected every key once");
  add("alignment 0", with_alignment(0), "power of two");
  add("alignment 24", with_alignment(24), "found 24");
  add("alignment 2^31", with_alignment(1u << 31), "found 2147483648");
  add("alignment of another type", header(0, 1).string("general.alignment").add(Type::kString).string("32"),
      "no unsigned integer");
  add("5 dimensions", with_tensors({{.ne = {1, 1, 1, 1, 1}}}, 32), "at most 4 dimensions, found 5");
  Bytes many_dims = header(1, 0);
  many_dims.string("t").add<uint32_t>(0xffffffffu).raw(std::string(64, '\1'));
  add("2^32-1 dimensions", many_dims, "found 4294967295");
  add("shape whose product wraps to 0", with_tensors({{.ne = {uint64_t{1} << 32, uint64_t{1} << 32}}}, 32), "2^63");
  add("shape whose product wraps to 16", with_tensors({{.ne = {(uint64_t{1} << 60) + 1, 16}}}, 64), "2^63");
  add("shape that wraps behind a 0", with_tensors({{.ne = {0, kHuge, kHuge, 4}}}, 64), "2^63");
  add("elements × size wraps", with_tensors({{.ne = {uint64_t{1} << 62}}}, 64), "2^64 bytes");
  add("row no multiple of the block", with_tensors({{.ne = {33}, .type = kQ8_0}}, 128), "multiple of 32 columns for Q8_0");
  add("type 4, removed", with_tensors({{.type = 4}}, 32), "type id 4");
  add("type 2^32-1", with_tensors({{.type = 0xffffffffu}}, 32), "type id 4294967295");
  add("offset not aligned", with_tensors({{.offset = 8}}, 64), "multiple of 32, found 8");
  add("beyond the end", with_tensors({{.ne = {9}}}, 32), "truncated");
  add("offset beyond the end", with_tensors({{.offset = 64}}, 64), "truncated");
  add("offset + size wraps", with_tensors({{.ne = {16}, .offset = kMax - 31}}, 64), "truncated");
  add("data start + offset wraps", with_tensors({{.ne = {0}, .offset = kMax - 31}}, 64), "truncated");
  add("overlap", with_tensors({{"a", {16}, kF32, 0}, {"b", {8}, kF32, 32}}, 64), "overlap with 'a'");
  add("overlap, other order", with_tensors({{"b", {8}, kF32, 32}, {"a", {16}, kF32, 0}}, 64), "overlap with 'a'");
  add("duplicate tensor", with_tensors({{"a", {8}, kF32, 0}, {"a", {8}, kF32, 32}}, 64), "'a': expected every name once");
  Bytes name = header(1, 0);
  name.add<uint64_t>(kMax - 3).raw(std::string(64, 'n'));
  add("tensor name length 2^64-4", name, "tensor name");
  add("control characters in a name", with_tensors({{"a\x1b[2J", {9}, kF32, 0}}, 0), "a\\x1b[2J");
  return cases;
}

TEST(GgufMalformed, IsRefusedWithPlaceAndReason) {
  for (const Case& c : malformed()) {
    SCOPED_TRACE(c.name);
    const std::string message = error_of([&] { GgufFile::parse(c.bytes.span(), "dir/x.gguf"); });
    EXPECT_TRUE(message.starts_with("dir/x.gguf@0x")) << message;
    EXPECT_NE(message.find(c.expected), std::string::npos) << message;
    EXPECT_NE(message.find("expected"), std::string::npos) << message;
    EXPECT_NE(message.find("found"), std::string::npos) << message;
  }
}

TEST(GgufMalformed, TheLimitsThemselvesAreFine) {
  EXPECT_TRUE(try_gguf(header(0, 0).span()));
  EXPECT_TRUE(try_gguf(header(0, 0, 2).span()));
  EXPECT_TRUE(try_gguf(arrays_nested(4).span()));
  EXPECT_TRUE(try_gguf(with_alignment(1).span()));
  EXPECT_TRUE(try_gguf(with_alignment(1u << 20).span()));
  EXPECT_TRUE(try_gguf(with_tensors({{"a", {1, 2, 2, 2}, kF32, 0}, {"b", {8}, kF32, 32}}, 64).span()));
  EXPECT_TRUE(try_gguf(with_tensors({{"a", {8}, kF32, 32}, {"b", {8}, kF32, 0}}, 64).span()));
  EXPECT_TRUE(try_gguf(with_tensors({{"a", {0}, kF32, 0}, {"b", {}, kF32, 0}}, 4).span()));
}

TEST(GgufMalformed, OtherVersionsAreUnsupportedWithAdvice) {
  const auto refused = [](uint32_t version) {
    return error_of([&] { GgufFile::parse(header(0, 0, version).span(), "x"); }, ExitCode::kUnsupported);
  };
  EXPECT_NE(refused(1).find("convert the original checkpoint again"), std::string::npos);
  EXPECT_NE(refused(4).find("found 4"), std::string::npos);
  EXPECT_NE(refused(0x03000000).find("big-endian"), std::string::npos);
}

TEST(GgufMalformed, EveryPrefixIsRefusedAndNoFlippedByteCrashes) {
  Bytes b = header(2, 4);
  b.string("general.alignment").add(Type::kU32).add<uint32_t>(8);
  b.string("s").add(Type::kString).string("text");
  b.string("a").add(Type::kArray).add(Type::kString).add<uint64_t>(2).string("x").string("yz");
  b.string("n").add(Type::kArray).add(Type::kArray).add<uint64_t>(1).add(Type::kF32).add<uint64_t>(1).add<float>(1);
  b.string("w").add<uint32_t>(2).add<uint64_t>(32).add<uint64_t>(2).add(kQ8_0).add<uint64_t>(0);
  b.string("v").add<uint32_t>(1).add<uint64_t>(3).add(kF32).add<uint64_t>(72);
  b.pad_to(8);
  b.text.append(68, '\x5a').resize(b.text.size() + 4);
  b.text.append(12, '\x11');
  check_prefixes_and_flips(b.text, try_gguf, b.text.size());
}

}  // namespace
}  // namespace tsubu
