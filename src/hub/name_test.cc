#include "hub/name.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "hub/repo.h"

namespace tsubu {
namespace {

TEST(HubName, Parts) {
  const HubName plain = hub_name_of("org/name");
  EXPECT_EQ(plain.id, "org/name");
  EXPECT_EQ(plain.revision, "main");
  EXPECT_EQ(plain.choice, "");
  const HubName full = hub_name_of("hf://Org.1/a_b-c@refs/pr/3:sub/model-Q4_K_M.gguf");
  EXPECT_EQ(full.id, "Org.1/a_b-c");
  EXPECT_EQ(full.revision, "refs/pr/3");
  EXPECT_EQ(full.choice, "sub/model-Q4_K_M.gguf");
  EXPECT_EQ(full.text(), "Org.1/a_b-c@refs/pr/3:sub/model-Q4_K_M.gguf");
}

TEST(HubName, WhatIsNone) {
  for (const char* text : {"", "name", "a/b/c", "/a", "a/", "a/..", "../b", ".a/b", "a/b.", "a/b--c", "a b/c", "a/b@", "a/b@../x",
                           "a/b@x//y", "a/b@-x", "a/b@x/", "a/b:", "a\n/b", "a/b@x y"})
    EXPECT_THROW(hub_name_of(text), Error) << text;
  EXPECT_THROW(hub_name_of(std::string(60, 'a') + "/" + std::string(60, 'b')), Error);
}

TEST(HubName, PathsAreNone) {
  for (const char* text : {"model.gguf", "no-such-folder/model.gguf", "./a/b", "/a/b", "a/b/c", "single", "/", "."})
    EXPECT_FALSE(parse_hub_name(text)) << text;
  EXPECT_TRUE(parse_hub_name("no-such-folder/model"));
  EXPECT_TRUE(parse_hub_name("no-such-folder/model:Q4_K_M"));
  EXPECT_FALSE(parse_hub_name("/tmp"));
}

TEST(FileName, StaysBelowItsFolder) {
  for (const char* good : {"a", "a/b.json", "a b", "..a", "a..", "日本語.json", "a/.hidden"}) EXPECT_NO_THROW(check_file_name(good, "x")) << good;
  for (const char* bad : {"", "/a", "a/", "..", "a/../b", "./a", "a//b", "a\\b", "a\nb", "\x7f"})
    EXPECT_THROW(check_file_name(bad, "x"), Error) << bad;
  EXPECT_THROW(check_file_name(std::string(256, 'x'), "x"), Error);
}

std::vector<RepoFile> files(std::initializer_list<const char*> names) {
  std::vector<RepoFile> all;
  for (const char* name : names) all.push_back({name, 100, ""});
  return all;
}

TEST(GgufChoices, TypesInNames) {
  const struct {
    const char *name, *type;
  } kNames[] = {{"llama-7b.Q4_K_M.gguf", "Q4_K_M"},   {"llama-7b-q4_k_m.gguf", "Q4_K_M"},    {"x-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"},
                {"x-bf16.gguf", "BF16"},              {"Q8_0/x-00001-of-00002.gguf", "Q8_0"}, {"x-MXFP4_MOE.gguf", "MXFP4_MOE"},
                {"Qwen2-Q2_K.gguf", "Q2_K"},          {"x_Q6_K_L.gguf", "Q6_K_L"},            {"model.gguf", ""},
                {"QUANT4-model.gguf", ""},            {"x-TQ1_0.gguf", "TQ1_0"}};
  for (const auto& [name, type] : kNames) {
    const std::vector<RepoFile> one = files({name});
    EXPECT_EQ(gguf_choices(one).at(0).type, type) << name;
  }
}

TEST(GgufChoices, ATypeIsAWholeWord) {
  const auto choices = gguf_choices(files({"x-IQ4_XS.gguf", "x-Q4_K_S.gguf", "x-Q4_K_M.gguf", "x-Q4_K_M_L.gguf", "imatrix-Q4_K_M.gguf"}));
  EXPECT_EQ(choices.size(), 4u);
  EXPECT_EQ(choose_gguf(choices, {"a/b", "main", "q4_k_m"}).files.at(0), "x-Q4_K_M.gguf");
  EXPECT_EQ(choose_gguf(choices, {"a/b", "main", "IQ4_XS"}).files.at(0), "x-IQ4_XS.gguf");
  EXPECT_EQ(choose_gguf(choices, {"a/b", "main", "x-Q4_K_S.gguf"}).files.at(0), "x-Q4_K_S.gguf");
  for (const char* none : {"Q4_K", "Q4_XS", "", "Q5_0"}) EXPECT_THROW(choose_gguf(choices, {"a/b", "main", none}), Error) << none;
}

TEST(GgufChoices, ShardsAreOne) {
  const auto choices = gguf_choices(files({"x-00002-of-00002.gguf", "x-00001-of-00002.gguf", "x-00001-of-00001.gguf"}));
  ASSERT_EQ(choices.size(), 2u);
  const auto& two = choices[0].files.size() == 2 ? choices[0] : choices[1];
  EXPECT_EQ(two.files, (std::vector<std::string>{"x-00001-of-00002.gguf", "x-00002-of-00002.gguf"}));
  EXPECT_EQ(two.size_bytes, 200u);
}

}  // namespace
}  // namespace tsubu
