#include "report/report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "evaluate/remarks.h"
#include "lens/remarks.h"
#include "pipeline/remarks.h"

namespace tsubu {
namespace {

TEST(Words, EveryPhraseIsSaidInBothLanguagesOnce) {
  std::set<std::string_view> keys;
  for (const Phrase& p : phrases()) {
    EXPECT_TRUE(keys.insert(p.key).second) << p.key;
    EXPECT_FALSE(p.english.empty());
    EXPECT_FALSE(p.japanese.empty());
    const auto holes = [](std::string_view s) {  // {} and {0} …
      std::multiset<std::string_view> found;
      for (size_t at = s.find('{'); at != s.npos; at = s.find('{', at + 1)) found.insert(s.substr(at, s.find('}', at) + 1 - at));
      return found;
    };
    EXPECT_EQ(holes(p.english), holes(p.japanese)) << p.key;
  }
  EXPECT_EQ(Words(Language::kJapanese)("pass"), "合格");
  EXPECT_THROW(language_named("de"), Error);
}

// Every sentence that a run can say has its Japanese, with the same arguments; and no translation is left over.
TEST(Words, EveryRemarkIsTranslated) {
  std::map<std::string_view, std::string_view> said;
  for (const RemarkKind& k : kEvaluateRemarks) EXPECT_TRUE(said.emplace(k.id, k.english).second) << k.id;
  for (const RemarkKind& k : kLensRemarks) EXPECT_TRUE(said.emplace(k.id, k.english).second) << k.id;
  for (const RemarkKind& k : kPipelineRemarks) EXPECT_TRUE(said.emplace(k.id, k.english).second) << k.id;
  const auto holes = [](std::string_view pattern) {
    std::set<char> found;
    for (size_t at = 0; at + 2 < pattern.size(); ++at)
      if (pattern[at] == '{' && pattern[at + 2] == '}') found.insert(pattern[at + 1]);
    return found;
  };
  std::set<std::string_view> translated;
  for (const Sentence& s : sentences()) {
    EXPECT_TRUE(translated.insert(s.id).second) << s.id;
    ASSERT_TRUE(said.contains(s.id)) << s.id << ": nothing says it";
    EXPECT_EQ(holes(s.japanese), holes(said.at(s.id))) << s.id;
  }
  for (const auto& [id, english] : said) EXPECT_TRUE(translated.contains(id)) << id << ": " << english;
}

TEST(Words, RemarksOfRunsAreSaidInThePagesLanguage) {
  const Words ja(Language::kJapanese), en(Language::kEnglish);
  const Json remark = to_json(remark_about("blk.1.attn_q.weight", kind_in(kEvaluateRemarks, "weights.holds"), {"blk.2.attn_q.weight"}));
  EXPECT_EQ(en.said(remark), "blk.1.attn_q.weight: holds blk.2.attn_q.weight of the base");
  EXPECT_EQ(ja.said(remark), "blk.1.attn_q.weight: 元のモデルの blk.2.attn_q.weight の中身が入っています");
  EXPECT_EQ(ja.said("a line of an earlier version"), "a line of an earlier version");
  EXPECT_EQ(ja.said(parse_json(R"({"id":"of.a.later.version","args":[],"text":"plain"})", "test")), "plain");
  EXPECT_EQ(ja.said(parse_json(R"({"id":"weights.holds","args":[],"text":"x"})", "test")), "元のモデルの {0} の中身が入っています");
  EXPECT_EQ(en.all_said(parse_json(R"(["a",{"id":"","args":[],"text":"b"}])", "test")), "a; b");
  EXPECT_EQ(ja.said(Json(3)), "");
}

TEST(Cost, IsPriceOverSpeed) {
  Prices prices;
  prices.machine_hour = 3.6;
  prices.kwh = 0.25;
  prices.tokens_per_month = 2e6;
  prices.once = 10;
  const Cost base = cost_of(prices, 100, 0);  // 3.6 / 3600 / 100 a token
  EXPECT_NEAR(base.per_million, 10, 1e-9);
  EXPECT_NEAR(*base.per_month, 20, 1e-9);
  EXPECT_NEAR(*base.machines, 2e4 / 2629800, 1e-9);
  const Cost fast = cost_of(prices, 200, 7.2);  // 7.2 MJ = 2 kWh for a million
  EXPECT_NEAR(fast.per_million, 5.5, 1e-9);
  EXPECT_NEAR(*break_even_tokens(prices, base, fast), 10 / 4.5e-6, 1);
  EXPECT_FALSE(break_even_tokens(prices, fast, base).has_value());
}

// The data of the page's charts.
Json charts_of(const std::string& page) {
  const std::string_view begin = "id=\"charts\">";
  const size_t at = page.find(begin) + begin.size();
  return parse_json(page.substr(at, page.find("</script>", at) - at), "charts");
}

Json certified() {
  return parse_json(R"({"command":"certify","version":"0","verdict":"fail",
   "gates":[{"candidate":"d/q4.gguf","name":"max_kld","value":0.0123,"bound":0.0131,"limit":0.01,"ok":false,"p_break":0.99,"detail":"worst <text>"}],
   "base":{"path":"d/base","type":"F16","hashes":["00ff"],"size_bytes":2048,"bits_per_weight":16},
   "candidates":[{"path":"d/q4.gguf","type":"Q4_K","hashes":["aa"],"size_bytes":600,"bits_per_weight":4.5,"verdict":"fail",
    "divergence":{"mean":0.0123,"ci95":[0.0115,0.0131],"median":0.01,"p90":0.02,"p95":0.03,"p99":0.1,"p999":0.2,"max":0.3},
    "top1_agreement":0.91,"ln_ppl_ratio":0.01,"leakage":{"share":0.25,"text":"t"},"tasks":[],
    "histogram":{"log10_first":-8,"step":0.25,"counts":[1,2,3]},
    "weights":{"comparable":true,"configuration":["rope base: 10000 in the base, 500000 here"],"findings":[{"tensor":"blk.0.ffn_up.weight","finding":"holds blk.1"}],
      "tensors":[{"name":"blk.0.ffn_up.weight","type":"Q4_K","rel_error":1.4,"finding":"holds blk.1"},{"name":"blk.1.ffn_up.weight","type":"Q4_K","rel_error":0.07}]},
    "worst_tokens":[{"text":"t","position":9,"before":"<script>alert(1)</script>","actual":"x","kld":2.5,"base":{"top":"a","top_p":0.5,"p":0.1},"candidate":{"top":"b","top_p":0.4,"p":0.2}}]}],
   "texts":[{"path":"t","hash":"h","bytes":1,"tokens":2,"chunks":3}],"calibration_texts":[],"tasks":[],"power":[],
   "noise_floor":{"repeat":0.0,"runtime":0.001},"stability":{"bootstrap_seeds":5,"same_verdict":true,
    "templates":[{"template":"Q: {} <i>","same_verdict":false,"candidates":[]}],
    "threads":{"numbers":[2,4],"chunks":3,"questions":5,"prompts":1,"compared":7654,"differ":0,"same_verdict":true}},"protocol":"the protocol line"})",
                    "test");
}

TEST(Report, ShowsWhatTheRunSaysAndNothingRunsInIt) {
  const std::vector<tsubu::Run> runs = {{"run.json", certified()}};
  const std::string page = make_report(runs, {});
  for (const char* part : {"0.0123", "max_kld", "worst &lt;text&gt;", "holds blk.1", "rope base", "the protocol line",
                           "25.00 %", "0.07", "99.00 %", "“Q: {} &lt;i&gt;”: changes", "0 of 7654 numbers differ): the same"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  // One script, the page's own (the other is data); the policy names it by its digest, so nothing that came with the data can run.
  size_t scripts = 0;
  for (size_t at = page.find("<script"); at != page.npos; at = page.find("<script", at + 1)) ++scripts;
  EXPECT_EQ(scripts, 2u);
  EXPECT_NE(page.find("script-src 'sha256-"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert"), std::string::npos);
  const std::string before_script = page.substr(0, page.find("<script>"));
  for (const char* part : {"http://", "https://", "src=", "<svg"}) EXPECT_EQ(before_script.find(part), std::string::npos) << part;
  const Json charts = charts_of(page);
  ASSERT_EQ(charts.at("charts").size(), 4u);  // size and quality, the tokens' divergence, the map of errors, a type
  EXPECT_EQ(charts.at("charts")[0].at("series")[0].at("points")[0], parse_json(R"([4.5,0.0123,0.0115,0.0131,"q4.gguf"])", "test"));
  EXPECT_EQ(charts.at("charts")[0].at("front"), "none is both smaller and closer");
  EXPECT_EQ(charts.at("charts")[1].at("series")[0].at("points").size(), 3u);
  EXPECT_EQ(charts.at("charts")[2].at("cells")[0], parse_json(R"([0,0,1.4,"blk.0.ffn_up.weight, Q4_K","holds blk.1",true])", "test"));
  EXPECT_EQ(charts.at("protocols")[0], "the protocol line");
  EXPECT_EQ(page.find(">nan"), std::string::npos);
  size_t links = 0;  // each leads to a place of the page
  for (size_t at = page.find("href=\"#"); at != page.npos; at = page.find("href=\"#", at + 1), ++links) {
    const std::string name = page.substr(at + 7, page.find('"', at + 7) - at - 7);
    EXPECT_NE(page.find("id=\"" + name + "\""), std::string::npos) << name;
  }
  EXPECT_GT(links, 15u);
  ReportOptions japanese;
  japanese.language = Language::kJapanese;
  const std::string page_ja = make_report(runs, japanese);
  EXPECT_NE(page_ja.find("lang=\"ja\""), std::string::npos);
  EXPECT_NE(page_ja.find("不合格"), std::string::npos);
  EXPECT_EQ(charts_of(page_ja).at("charts")[0].at("x").at("name"), "重みあたりビット数");
  EXPECT_EQ(charts_of(page_ja).at("words").at("protocol"), "測り方");
}

Json lens() {
  return parse_json(R"({"model":"m","windows":2,"context":64,"tokens_scored":60,"findings":["down_proj <b> carries"],"cells_in_all":9,
   "cells":[{"what":"weights","part":"curves","kind":"M+","seed":1,"r":0.0625,"kld":0.002},{"what":"weights","part":"curves","kind":"M+","seed":2,"r":0.0625,"kld":0.004},
    {"what":"weights","part":"curves","kind":"M+","seed":1,"r":0.125,"kld":0.01},{"what":"activations","part":"gamma","kind":"gamma=1","seed":1,"r":0.06,"kld":0.5}],
   "sensitivities":[{"name":"blk.0.ffn_down.weight","role":"ffn_down","layer":0,"r":0.1,"kld":0.01,"alpha":1.25}],
   "codecs":[{"type":"Q4_K","r":0.07,"kld":0.0015,"equivalent_r":0.0686,"efficiency":0.98}]})",
                    "test");
}

TEST(Report, ShowsTheLens) {
  const std::vector<tsubu::Run> runs = {{"run.json", certified()}, {"lens.json", lens()}};
  const std::string page = make_report(runs, {});
  for (const char* part : {"id=\"lens\"", "down_proj &lt;b&gt; carries", "0.003", "0.002 – 0.004", "1.25", "0.98", "href=\"#lens\""})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("0.5</td>"), std::string::npos);  // not of the curves
  const Json charts = charts_of(page);
  const auto curves = std::find_if(charts.at("charts").begin(), charts.at("charts").end(), [](const Json& c) { return c.at("title") == "Noise in the weights"; });
  ASSERT_NE(curves, charts.at("charts").end());
  EXPECT_EQ(curves->at("series")[0].at("points")[0], parse_json("[0.0625,0.003,0.002,0.004]", "test"));
  EXPECT_EQ(curves->at("series")[1].at("points")[0][4], "Q4_K");
  Json damaged = lens();
  damaged.erase("findings");
  const std::vector<tsubu::Run> broken = {{"x.json", damaged}};
  EXPECT_THROW(make_report(broken, {}), Error);
}

TEST(Report, ShowsATraining) {
  const Json tune = parse_json(R"({"source_bytes":9,"size_bytes":3,"bits_per_weight":2.6,"tensors":[],"notes":[],"output":"a/q<2>.gguf",
   "training":{"best":1,"judged_tokens":8192,"seconds":90,"tokens_per_second":2345.6,"curve":[
     {"step":0,"tokens":0,"loss":0,"divergence":0.168,"cross_entropy":4.25,"rate":0},
     {"step":7,"tokens":14336,"loss":0.0912,"divergence":0.0877,"cross_entropy":4.19,"rate":0.001}]}})",
                               "test");
  const std::vector<tsubu::Run> runs = {{"tune.json", tune}};
  EXPECT_EQ(run_kind(runs[0]), "tune");
  const std::string page = make_report(runs, {});
  for (const char* part : {"id=\"tune\"", "href=\"#tune\"", "q&lt;2&gt;.gguf", "0.168", "0.0912", "14336", "1m30s", "<figure hidden>"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  Json damaged = tune;
  damaged["training"].erase("curve");
  const std::vector<tsubu::Run> broken = {{"tune.json", damaged}};
  EXPECT_THROW(make_report(broken, {}), Error);
}

TEST(Report, RefusesWhatIsNoRun) {
  const std::vector<tsubu::Run> runs = {{"x.json", Json{{"a", 1}}}};
  EXPECT_THROW(make_report(runs, {}), Error);
  Json damaged = certified();
  damaged["candidates"][0]["divergence"].erase("ci95");
  const std::vector<tsubu::Run> broken = {{"x.json", damaged}};
  EXPECT_THROW(make_report(broken, {}), Error);
}

}  // namespace
}  // namespace tsubu
