#include "cli/dispatch.h"

#include <gtest/gtest.h>

#include <set>

#include "cli/commands.h"

namespace tsubu {
namespace {

// Message of the usage error that the words cause; empty when they cause none.
std::string usage_error(const std::vector<std::string>& words) {
  try {
    run_command_line(words);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Dispatch, NamesAreUniqueAndEveryCommandHasASummaryAndAnExample) {
  std::set<std::string_view> names;
  for (const Command* command : commands()) {
    EXPECT_TRUE(names.insert(command->name).second) << command->name;
    EXPECT_FALSE(command->summary.empty()) << command->name;
    EXPECT_TRUE(command->example.starts_with("tsubu " + std::string(command->name))) << command->name;
  }
}

TEST(Dispatch, UnknownNamesComeWithTheNearest) {
  EXPECT_NE(usage_error({"quantise"}).find("did you mean 'quantize'?"), std::string::npos);
  EXPECT_NE(usage_error({"inspect", "--tensor", "x"}).find("did you mean '--tensors'?"), std::string::npos);
  EXPECT_NE(usage_error({"eval", "--txt=a", "m"}).find("did you mean '--text'?"), std::string::npos);
  EXPECT_NE(usage_error({"--jsn"}).find("unknown option '--jsn'"), std::string::npos);
  EXPECT_NE(usage_error({"types", "extra"}).find("unexpected argument 'extra'"), std::string::npos);
}

TEST(Dispatch, BadValuesNameTheirOption) {
  for (const char* command : {"types", "recipes", "archs"})
    for (const char* bad : {"0", "-1", "many", "1e99", "4294967297"})
      EXPECT_NE(usage_error({command, "--threads", bad}).find("--threads"), std::string::npos) << bad;
  EXPECT_NE(usage_error({"run", "m", "-p", "x", "--temp", "nan"}).find("--temp"), std::string::npos);
  EXPECT_NE(usage_error({"run", "m", "-p", "x", "--seed", "-3"}).find("--seed"), std::string::npos);
  EXPECT_NE(usage_error({"eval", "m", "--text", "x", "--protocol", "papr"}).find("--protocol"), std::string::npos);
}

}  // namespace
}  // namespace tsubu
