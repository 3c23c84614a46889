// Templates against what Python's jinja2 makes of them (tests/make_chat_goldens.py), and the limits of their work.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "chat/chat_template.h"
#include "chat/interpreter.h"

namespace tsubu::chat {
namespace {

std::string rendered(const std::string& source, Entries variables) {
  Context context;
  context.strftime_now = [](const std::string& format) {
    std::tm date{};
    date.tm_year = 126, date.tm_mon = 10, date.tm_mday = 26, date.tm_hour = 12, date.tm_min = 30, date.tm_wday = 4, date.tm_yday = 329;
    std::string out(256, '\0');
    out.resize(std::strftime(out.data(), out.size(), format.c_str(), &date));
    return out;
  };
  return render(parse_template(source), std::move(variables), context);
}

void check_goldens(const std::string& path) {
  const Json goldens = Json::parse(read_text_file(path));
  ASSERT_GT(goldens["cases"].size(), 5u);
  for (const Json& c : goldens["cases"]) {
    const auto source = goldens["templates"][c["template"].get<size_t>()].get<std::string>();
    Entries variables = {{"messages", Value::from_json(c["messages"])}, {"tools", Value::from_json(c["tools"])},
                         {"add_generation_prompt", c["add_generation_prompt"].get<bool>()}, {"documents", Value()},
                         {"bos_token", "<s>"}, {"eos_token", "</s>"}};
    try {
      const std::string text = rendered(source, std::move(variables));
      if (c.contains("error"))
        ADD_FAILURE() << c["name"] << ": rendered, and Python says " << c["error"] << "\n" << text;
      else
        EXPECT_EQ(text, c["expected"].get<std::string>()) << c["name"];
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kBadInput);
      if (!c.contains("error")) ADD_FAILURE() << c["name"] << ": " << e.what();
    }
  }
}

TEST(ChatTemplate, IsWhatPythonRenders) { check_goldens(std::string(TSUBU_SOURCE_DIR) + "/tests/golden/chat.json"); }

TEST(ChatTemplate, IsWhatPythonRendersOfGivenTemplates) {
  const char* path = std::getenv("TSUBU_CHAT_GOLDENS");
  if (!path) GTEST_SKIP() << "TSUBU_CHAT_GOLDENS is not set";
  check_goldens(path);
}

std::string error_of(const std::string& source) {
  try {
    rendered(source, {});
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(ChatTemplate, ErrorsSayWhere) {
  EXPECT_EQ(error_of("a\n{{ 'x' +\n 1 }}"), "chat template: line 3: string + integer: not of these kinds");
  EXPECT_EQ(error_of("\n\n{{ nothing.here }}"), "chat template: line 3: 'nothing' is not there, and something of it is asked for");
  EXPECT_NE(error_of("{% include 'x' %}").find("'include' is no statement"), std::string::npos);
  EXPECT_NE(error_of("{{ raise_exception('no') }}").find("no"), std::string::npos);
}

TEST(ChatTemplate, WorkIsBounded) {
  EXPECT_NE(error_of("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"), "");
  EXPECT_NE(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").find("deeper"), std::string::npos);
  EXPECT_NE(error_of("{% set n = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(64) %}{% set n.s = n.s + n.s %}{% endfor %}"), "");
  EXPECT_NE(error_of("{{ 'x' * 1000000000 }}"), "");
  EXPECT_NE(error_of("{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}"), "");
  EXPECT_NE(error_of("{% set n = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% set n.m = [n.m, n.m] %}"
                     "{% endfor %}{{ n.l == n.m }}"), "");
  EXPECT_NE(error_of("{{ " + std::string(100000, '(') + " }}"), "");
  EXPECT_NE(error_of("{{ " + std::string(100000, '-') + "1 }}"), "");
  std::string ifs, additions = "{{ 1";
  for (int i = 0; i < 100000; ++i) ifs += "{% if 1 %}";
  EXPECT_NE(error_of(ifs), "");
  // A long sum is a deep tree.
  for (int i = 0; i < 50000; ++i) additions += "+1";
  EXPECT_NE(error_of(additions + " }}"), "");
}

TEST(ChatTemplate, EveryCutOfATemplateIsAnErrorOrRenders) {
  const Json goldens = Json::parse(read_text_file(std::string(TSUBU_SOURCE_DIR) + "/tests/golden/chat.json"));
  size_t n = 0;
  for (const Json& t : goldens["templates"]) {
    const auto source = t.get<std::string>();
    for (size_t size = 0; size < source.size(); size += 1 + size / 40) {
      error_of(source.substr(0, size));
      error_of(source.substr(size));
      ++n;
    }
  }
  EXPECT_GT(n, 500u);
}

TEST(ChatTemplate, WithoutATemplateThereIsAPlainForm) {
  const ChatTemplate plain("", "<s>", "</s>");
  Request request;
  request.messages = Json::parse(R"([{"role": "user", "content": "Once"}])");
  EXPECT_EQ(plain.render(request), "Once");
  request.messages = Json::parse(R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
      {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "And?"}])");
  EXPECT_EQ(plain.render(request), "Be kind.\n\nUser: Hi\nAssistant: Hello\nUser: And?\nAssistant:");
  EXPECT_EQ(plain.stops().size(), 2u);
  EXPECT_TRUE(ChatTemplate("{{ messages[0].content }}", "", "").stops().empty());
}

}  // namespace
}  // namespace tsubu::chat
