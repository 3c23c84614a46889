#include "base/json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tsubu {
namespace {

std::string refused(const std::string& text, bool reject_duplicates = false) {
  try {
    parse_json(text, "x.json", reject_duplicates);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kBadInput);
    return e.what();
  }
  return "";
}

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(Json, KeepsTheOrderOfKeys) { EXPECT_EQ(parse_json(R"({"b":1,"a":2})", "x").dump(), R"({"b":1,"a":2})"); }

TEST(Json, BadSyntaxNamesTheFile) {
  for (const char* text : {"", "{", "[1,]", "{} {}", "nul", "\"\xff\""})
    EXPECT_TRUE(refused(text).starts_with("x.json")) << text;
}

TEST(Json, NulIsNoEndOfTheText) {
  using namespace std::string_literals;
  EXPECT_NE(refused("{}\0"s).find("x.json@0x2"), std::string::npos);
  EXPECT_NE(refused("{}\0{}"s).find("NUL"), std::string::npos);
  EXPECT_NE(refused("\0{}"s).find("x.json@0x0"), std::string::npos);
  EXPECT_NE(refused("[\"a\0\"]"s).find("NUL"), std::string::npos);
}

TEST(Json, DuplicatesAreRefusedOnRequestPerObject) {
  const std::string twice = R"({"a":{"k":1},"b":[{"k":1},{"k":1,"k":2}]})";
  EXPECT_EQ(refused(twice), "");
  EXPECT_NE(refused(twice, true).find("'k' appears twice"), std::string::npos);
  EXPECT_EQ(refused(R"({"k":{"k":[{"k":1},{"k":1}]}})", true), "");
}

TEST(Json, DepthIsBounded) {
  EXPECT_EQ(refused(nested(64)), "");
  EXPECT_NE(refused(nested(100)).find("nested"), std::string::npos);
  EXPECT_NE(refused(nested(1'000'000)).find("nested"), std::string::npos);
}

TEST(Json, DumpsReplaceInvalidUtf8) { EXPECT_EQ(dump_json(Json("a\xff")), "\"a\xef\xbf\xbd\"\n"); }

}  // namespace
}  // namespace tsubu
