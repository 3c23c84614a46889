#include "tune/chat_data.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"

namespace tsubu {
namespace {

const Vocabulary& vocabulary() {
  static const Vocabulary v = vocabulary_from_directory(TSUBU_SOURCE_DIR "/models/grain-7m", 4096);
  return v;
}

const char* const kTemplate =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]\n{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}";
// Reasoning is left out of all but the last answer, as some models' templates do.
const char* const kForgetful =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]\n"
    "{{ m.content if loop.last else m.content.replace('(hm) ', '') }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}";

std::vector<ChatExample> examples(const char* line, const char* chat_template) {
  return ChatRenderer(vocabulary(), chat_template).examples(chat_record(parse_json(line, "line"), "line"), "line");
}

// Text of the targets, runs joined by '|'.
std::string answers(const ChatExample& e) {
  const auto tokenizer = Tokenizer::make(vocabulary());
  std::string text;
  for (size_t i = 0; i < e.tokens.size(); ++i) {
    if (!e.is_answer[i]) continue;
    if (i > 0 && !e.is_answer[i - 1] && !text.empty()) text += '|';
    text += tokenizer->piece(e.tokens[i]);
  }
  return text;
}

std::string whole(const ChatExample& e) { return Tokenizer::make(vocabulary())->decode(e.tokens, true); }

TEST(ChatData, OnlyAnswersAndTheirEndsAreTargets) {
  const auto e = examples(R"({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who was it?"},
      {"role": "assistant", "content": "It was Tom."}, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "He was sad."}]})",
                          kTemplate);
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(answers(e[0]), "It was Tom.</s>|He was sad.</s>");
  EXPECT_NE(whole(e[0]).find("[user]\nWhy?"), std::string::npos) << whole(e[0]);
  EXPECT_EQ(e[0].tokens.front(), vocabulary().bos);
  EXPECT_FALSE(e[0].is_answer[0]);
}

TEST(ChatData, EveryFormIsTheSameConversation) {
  const auto first = examples(R"({"messages": [{"role": "user", "content": "Who?\n\nTom or Ann"}, {"role": "assistant", "content": "Tom."}]})", kTemplate);
  for (const char* line :
       {R"({"conversations": [{"from": "human", "value": "Who?\n\nTom or Ann"}, {"from": "gpt", "value": "Tom."}]})",
        R"({"prompt": "Who?\n\nTom or Ann", "completion": "Tom."})",
        R"({"prompt": [{"role": "user", "content": "Who?\n\nTom or Ann"}], "completion": [{"role": "assistant", "content": "Tom."}]})",
        R"({"instruction": "Who?", "input": "Tom or Ann", "output": "Tom."})"}) {
    const auto e = examples(line, kTemplate);
    ASSERT_EQ(e.size(), 1u) << line;
    EXPECT_EQ(e[0].tokens, first[0].tokens) << line;
    EXPECT_EQ(e[0].is_answer, first[0].is_answer) << line;
    EXPECT_EQ(answers(e[0]), "Tom.</s>") << line;
  }
}

TEST(ChatData, AMessageOfWeightZeroIsNoTarget) {
  const auto e = examples(R"({"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Tom.", "weight": 0},
      {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "He was sad."}]})",
                          kTemplate);
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(answers(e[0]), "He was sad.</s>");
}

TEST(ChatData, ATemplateThatForgetsMakesAnExampleOfEachAnswer) {
  const auto e = examples(R"({"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "(hm) Tom."},
      {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "(hm) He was sad."}]})",
                          kForgetful);
  ASSERT_EQ(e.size(), 2u);
  EXPECT_EQ(answers(e[0]), "(hm) Tom.</s>");
  EXPECT_EQ(answers(e[1]), "(hm) He was sad.</s>");
  EXPECT_EQ(whole(e[1]).find("(hm) Tom"), std::string::npos);
}

TEST(ChatData, WithoutATemplateACompletionFollowsItsPrompt) {
  const auto e = examples(R"({"prompt": "Once upon a time", "completion": " there was a dog."})", "");
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(whole(e[0]), "<s>Once upon a time there was a dog.</s>");
  EXPECT_EQ(answers(e[0]), " there was a dog.</s>");
}

TEST(ChatData, BadLinesAreNamed) {
  for (const char* line : {"[]", "{}", R"({"messages": []})", R"({"messages": [{"role": "user"}]})", R"({"prompt": "x"})",
                           R"({"messages": [{"content": "x"}]})", R"({"conversations": [{"from": "human", "value": 3}]})"})
    EXPECT_THROW(chat_record(parse_json(line, "f:7"), "f:7"), Error) << line;
  EXPECT_THROW(examples(R"({"messages": [{"role": "assistant", "content": "x"}]})", kTemplate), Error);
  EXPECT_THROW(examples(R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]})",
                        "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>>{% endif %}"),
               Error);
}

ChatExample example(std::vector<TokenId> tokens, std::vector<bool> is_answer) { return {std::move(tokens), std::move(is_answer)}; }

TEST(ChatData, PacksIntoTheFirstWindowWithRoom) {
  const auto make = [] {
    return std::vector<ChatExample>{example({1, 2, 3, 4, 5}, {false, false, false, true, true}), example({6, 7, 8, 9}, {false, true, true, true}),
                                    example({10, 11, 12}, {false, false, true})};
  };
  ChatData packed, alone;
  const auto windows = pack_examples(make(), 8, true, packed);
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[0].tokens, (std::vector<TokenId>{1, 2, 3, 4, 5, 10, 11, 12}));
  // The last token of an example has no target: what follows it is another conversation.
  EXPECT_EQ(windows[0].targets, (std::vector<TokenId>{-1, -1, 4, 5, -1, -1, 12, -1}));
  EXPECT_EQ(windows[0].starts, (std::vector<uint32_t>{0, 5}));
  EXPECT_EQ(windows[1].targets, (std::vector<TokenId>{7, 8, 9, -1}));
  EXPECT_EQ(windows[1].starts, std::vector<uint32_t>{0});
  EXPECT_EQ(packed.n_examples, 3u);
  EXPECT_EQ(pack_examples(make(), 8, false, alone).size(), 3u);
}

TEST(ChatData, LongExamplesAreCutAndThoseWithoutAnAnswerLeftOut) {
  ChatData counts;
  const auto windows = pack_examples({example({1, 2, 3, 4, 5}, {false, false, true, true, true}), example({1, 2, 3, 4, 5}, {false, false, false, false, true})},
                                     4, true, counts);
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_EQ(windows[0].tokens.size(), 4u);
  EXPECT_EQ(windows[0].n_targets(), 2u);
  EXPECT_EQ(counts.n_cut, 2u);
  EXPECT_EQ(counts.n_empty, 1u);
}

}  // namespace
}  // namespace tsubu
