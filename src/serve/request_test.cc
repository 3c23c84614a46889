#include "serve/request.h"

#include <gtest/gtest.h>

#include "serve/battles.h"
#include "serve/metrics.h"
#include "serve/server.h"

namespace tsubu::serve {
namespace {

// "" when it is taken, else the parameter that is named.
std::string refused(const std::string& body, bool is_chat) {
  try {
    const Json json = parse_body(body);
    is_chat ? parse_chat(json) : parse_completion(json);
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status, 400);
    EXPECT_STRNE(e.what(), "");
    return e.param.empty() ? "?" : e.param;
  }
  return "";
}

TEST(Request, ReadsCompletions) {
  const ApiRequest r = parse_completion(parse_body(R"({"model": "m", "prompt": ["a", [1, 2]], "max_tokens": 7, "temperature": 0, "top_p": 0.5,
      "n": 2, "stop": "x", "seed": -3, "logprobs": 4, "stream": true, "stream_options": {"include_usage": true}, "logit_bias": {"12": -100},
      "user": "somebody", "unknown": {"x": 1}, "echo": false})"));
  EXPECT_EQ(r.model, "m");
  ASSERT_EQ(r.prompts.size(), 2u);
  EXPECT_EQ(r.prompts[0].text, "a");
  EXPECT_EQ(r.prompts[1].tokens, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(r.job.max_tokens, 7u);
  EXPECT_EQ(r.job.stops, std::vector<std::string>{"x"});
  EXPECT_EQ(r.job.sampler.seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(r.job.n_top, 4u);
  EXPECT_TRUE(r.is_streamed && r.wants_usage && r.job.wants_logprobs && r.has_seed && r.has_max_tokens);
  EXPECT_EQ(r.job.logit_bias.at(12), -100);
}

TEST(Request, ReadsChats) {
  const ApiRequest r = parse_chat(parse_body(R"({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
      "logprobs": true, "top_logprobs": 3, "max_completion_tokens": 9, "tools": [], "stop": null, "response_format": {"type": "text"}})"));
  EXPECT_TRUE(r.is_chat);
  EXPECT_EQ(r.job.max_tokens, 9u);
  EXPECT_EQ(r.job.n_top, 3u);
  EXPECT_TRUE(r.tools.is_null());
}

TEST(Request, RefusesWithTheParameter) {
  const auto completion = [](const std::string& more) { return refused(R"({"model": "m", "prompt": "a")" + more + "}", false); };
  EXPECT_EQ(completion(""), "");
  for (const auto& [more, param] : std::vector<std::pair<std::string, std::string>>{
           {R"(, "temperature": 2.1)", "temperature"}, {R"(, "temperature": "1")", "temperature"}, {R"(, "temperature": 1e999)", "?"},
           {R"(, "top_p": -0.1)", "top_p"}, {R"(, "n": 0)", "n"}, {R"(, "n": 1.5)", "n"}, {R"(, "n": 1000)", "n"},
           {R"(, "max_tokens": 0)", "max_tokens"}, {R"(, "max_tokens": -1)", "max_tokens"}, {R"(, "stop": "")", "stop"},
           {R"(, "stop": [1])", "stop"}, {R"(, "stop": {})", "stop"}, {R"(, "seed": 1.5)", "seed"}, {R"(, "stream": 1)", "stream"},
           {R"(, "logit_bias": {"x": 1})", "logit_bias"}, {R"(, "logit_bias": {"1": 101})", "logit_bias"}, {R"(, "logprobs": 21)", "logprobs"},
           {R"(, "echo": true)", "echo"}, {R"(, "suffix": "x")", "suffix"}, {R"(, "best_of": 2)", "best_of"}, {R"(, "stream_options": 1)", "stream_options"},
           {R"(, "frequency_penalty": 3)", "frequency_penalty"}, {R"(, "top_k": 99999999999)", "top_k"}})
    EXPECT_EQ(completion(more), param) << more;
  EXPECT_EQ(refused(R"({"prompt": "a"})", false), "model");
  EXPECT_EQ(refused(R"({"model": "m"})", false), "prompt");
  EXPECT_EQ(refused(R"({"model": "m", "prompt": []})", false), "prompt");
  EXPECT_EQ(refused(R"({"model": "m", "prompt": [-1]})", false), "prompt");
  EXPECT_EQ(refused(R"({"model": "m", "prompt": [1.5]})", false), "prompt");
  EXPECT_EQ(refused(R"({"model": "m", "prompt": [1, "a"]})", false), "prompt");
  EXPECT_EQ(refused(R"({"model": "m", "prompt": {"file": "/etc/passwd"}})", false), "prompt");
  const auto chat = [](const std::string& messages) { return refused(R"({"model": "m", "messages": )" + messages + "}", true); };
  for (const char* messages : {"[]", "1", "null", "[1]", R"([{"content": "x"}])", R"([{"role": 1, "content": "x"}])", R"([{"role": "user"}])",
                               R"([{"role": "user", "content": 5}])", R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}])"})
    EXPECT_EQ(chat(messages), "messages") << messages;
  for (const char* body : {"", "{", "[]", "1", "nul", "{\"a\": \"\xff\"}", "{\"model\": \"m\"} x"}) EXPECT_NE(refused(body, true), "") << body;
  EXPECT_NE(refused(std::string(100000, '['), true), "");
}

TEST(Battles, HideWhoIsWho) {
  Battles battles;
  size_t n_left[2] = {0, 0};
  for (int i = 0; i < 200; ++i) {
    const std::string id = battles.open();
    const auto left = battles.lane_of("blind-" + id + "-left", "h"), right = battles.lane_of("blind-" + id + "-right", "h");
    ASSERT_TRUE(left && right);
    EXPECT_EQ(*left + *right, 1u);
    ++n_left[*left];
    const auto battle = battles.close(id);
    ASSERT_TRUE(battle);
    EXPECT_EQ(battle->left, *left);
    EXPECT_FALSE(battles.close(id)) << "one vote each";
  }
  EXPECT_GT(std::min(n_left[0], n_left[1]), 50u);  // 7 standard deviations
  const std::string id = battles.open();
  EXPECT_FALSE(battles.close(id)) << "nothing was asked";
  battles.lane_of("blind-" + id + "-left", "h");
  EXPECT_FALSE(battles.close(id)) << "one side";
  battles.lane_of("blind-" + id + "-right", "other");
  EXPECT_FALSE(battles.close(id)) << "two questions";
  for (const char* name : {"blind-", "blind-x", "blind-x-left", "blind--left", "x", "blind-left"}) EXPECT_FALSE(battles.lane_of(name, "h")) << name;
  EXPECT_FALSE(battles.lane_of("blind-" + id + "-middle", "h"));
  for (int i = 0; i < 1100; ++i) battles.open();
  EXPECT_FALSE(battles.lane_of("blind-" + id + "-left", "h")) << "the oldest are forgotten";
}

TEST(Server, ComparesSecretsAndHosts) {
  EXPECT_TRUE(same_secret("abc", "abc"));
  for (const char* other : {"", "ab", "abcd", "abd", "abcabc"}) EXPECT_FALSE(same_secret("abc", other)) << other;
  EXPECT_EQ(host_without_port("localhost:8080"), "localhost");
  EXPECT_EQ(host_without_port("localhost"), "localhost");
  EXPECT_EQ(host_without_port("[::1]:80"), "[::1]");
  EXPECT_EQ(host_without_port("[::1]"), "[::1]");
  EXPECT_TRUE(is_loopback("127.0.0.1") && is_loopback("localhost") && is_loopback("[::1]"));
  EXPECT_FALSE(is_loopback("evil.example"));
  EXPECT_FALSE(is_loopback("127.evil.example"));
  EXPECT_FALSE(is_loopback("localhost.evil.example"));
}

TEST(Metrics, IsPrometheusText) {
  Metrics m;
  m.add(Metric::kRequests, 2, Metrics::label("path", "a\"b\\c\nd"));
  m.observe(Metric::kRequestSeconds, 0.2);
  m.observe(Metric::kRequestSeconds, 5);
  const std::string text = m.text();
  EXPECT_NE(text.find("# TYPE tsubu_requests_total counter\ntsubu_requests_total{path=\"a\\\"b\\\\c\\nd\"} 2\n"), std::string::npos) << text;
  EXPECT_NE(text.find("tsubu_request_seconds_bucket{le=\"0.3\"} 1\n"), std::string::npos);
  EXPECT_NE(text.find("tsubu_request_seconds_bucket{le=\"+Inf\"} 2\ntsubu_request_seconds_sum 5.2\ntsubu_request_seconds_count 2\n"), std::string::npos);
  EXPECT_NE(text.find("tsubu_shadow_tokens_total 0\n"), std::string::npos) << "what has not happened yet is 0";
}

}  // namespace
}  // namespace tsubu::serve
