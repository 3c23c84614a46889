#include <gtest/gtest.h>

#include <cmath>

#include "base/digest.h"
#include "page/document.h"
#include "page/html.h"
#include "page/words.h"

namespace tsubu {
namespace {

TEST(Html, EscapesWhatMarkupIsMadeOf) {
  EXPECT_EQ(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(escape("猫\xff\x01"), "猫\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Html, TablesAlignNumbers) {
  HtmlTable table({"a", ">b"});
  table.add({"x", "1"});
  EXPECT_NE(table.html().find("<td class=\"n\">1</td>"), std::string::npos);
  EXPECT_NE(table.html().find("<td>x</td>"), std::string::npos);
  EXPECT_NE(text_table({"a", "b"}, {{"<", "2"}}).find("<td>&lt;</td><td class=\"n\">2</td>"), std::string::npos);
}

TEST(Html, TablesSayHowTheirNumbersWereMeasured) {
  const std::string table = text_table({"a", "b"}, {{"x", "2"}}, "by \"eye\"");
  EXPECT_EQ(table.find("<div class=\"scroll how\" tabindex=\"0\" title=\"by &quot;eye&quot;\"><table>"), 0u) << table;
  EXPECT_EQ(text_table({"a", "b"}, {{"x", "2"}}).find("title="), std::string::npos);
  EXPECT_EQ(text_table({"a", "b"}, {}, "how"), "");
}

TEST(Html, NumbersAreShort) {
  EXPECT_EQ(short_number(0.00123456), "0.00123");
  EXPECT_EQ(short_number(1e-5), "1e-5");
  EXPECT_EQ(short_number(0.000123), "1.23e-4");
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(25.04), "25");
}

XyChart one_point(double x, double y, double low, double high) {
  XyChart chart{"t", {"x", false, false, {}, {}, {}}, {"y", true, false, {}, {}, {}}, {}, {}, ""};
  chart.series.push_back({"s", {{x, y, low, high, "p"}}, 9, ChartSeries::Form::kDots, "how"});
  return chart;
}

TEST(Charts, HoldTheirPointsAndHowTheyWereMeasured) {
  Charts charts;
  EXPECT_TRUE(charts.empty());
  EXPECT_NE(charts.add(one_point(4, 0.01, 0.009, 0.011)).find("data-chart=\"0\""), std::string::npos);
  EXPECT_NE(charts.add(one_point(4, 0.01, 0, 0)).find("data-chart=\"1\""), std::string::npos);
  const Json j = charts.json();
  EXPECT_EQ(j.at("protocols").size(), 1u);  // once
  const Json& series = j.at("charts")[0].at("series")[0];
  EXPECT_EQ(series.at("points")[0], Json::parse(R"([4.0,0.01,0.009,0.011,"p"])"));
  EXPECT_EQ(series.at("protocol"), 0);
  EXPECT_EQ(series.at("color"), 1);
  EXPECT_EQ(j.at("charts")[1].at("series")[0].at("points")[0], Json::parse(R"([4.0,0.01,null,null,"p"])"));
}

TEST(Charts, LogarithmicAxesLeaveOutWhatHasNoLogarithm) {
  Charts charts;
  EXPECT_EQ(charts.add(one_point(4, 0, 0, 0)), "");
  EXPECT_EQ(charts.add(one_point(4, NAN, 0, 0)), "");
  charts.add(one_point(4, 0.1, -1, 1));
  EXPECT_EQ(charts.json().at("charts")[0].at("series")[0].at("points")[0], Json::parse(R"([4.0,0.1,null,1.0,"p"])"));
}

TEST(Charts, NothingToDrawIsNoChart) {
  Charts charts;
  EXPECT_EQ(charts.add(XyChart{}), "");
  EXPECT_EQ(charts.add(RowChart{}), "");
  EXPECT_EQ(charts.add(RowChart{"", "", "", true, {{"a", "0", 0, 0, 0, {}, "", "", 0}}, {}}), "");
  EXPECT_EQ(charts.add(HeatChart{}), "");
  EXPECT_EQ(charts.add(PairChart{}), "");
  EXPECT_EQ(chart_figure(""), "");
  EXPECT_TRUE(charts.empty());
}

TEST(Charts, MapsMarkCells) {
  Charts charts;
  HeatChart map;
  map.rows = {"0"};
  map.columns = {"q", "k", "v"};
  map.cells = {{HeatCell{0.1, "a", "why", true}, HeatCell{NAN, "b", "not finite", true}, std::nullopt}};
  EXPECT_NE(charts.add(map), "");
  EXPECT_EQ(charts.json().at("charts")[0].at("cells"), Json::parse(R"([[0,0,0.1,"a","why",true],[1,0,null,"b","not finite",true]])"));
}

TEST(Words, FillTheirHoles) {
  const Words en(Language::kEnglish), ja(Language::kJapanese);
  EXPECT_EQ(en("study.layer", 3), "layer 3");
  EXPECT_EQ(ja("study.layer", 3), "層 3");
  EXPECT_EQ(en("gradients.protocol", 8, 64, 2).find("learned from 8 windows of 64 tokens"), 0u);
  EXPECT_EQ(ja("gradients.protocol", 8, 64, 2).find("64 トークンの窓 8 個"), 0u);
  EXPECT_EQ(ja.code(), "ja");
}

TEST(Words, FiguresSayWhenThereIsNothingToSee) {
  const Words w(Language::kEnglish);
  EXPECT_EQ(titled_figure("", "T", "caption", "", w), "<figure><figcaption>T: nothing was measured.</figcaption></figure>\n");
  EXPECT_NE(titled_figure("<i></i>", "<T>", "caption", "<table></table>", w)
                .find("<h3>&lt;T&gt;</h3><i></i><figcaption>caption</figcaption><details><summary>Numbers</summary><table></table></details>"),
            std::string::npos);
}

TEST(Document, NothingOfTheDataRuns) {
  Charts charts;
  XyChart chart = one_point(1, 1, 0, 0);
  chart.title = "</script><script>alert(1)";
  const std::string body = chart_figure(charts.add(chart));
  EXPECT_EQ(body.find("<script"), std::string::npos);
  const std::string page = page_document({"en", "a<b", body, false}, charts);
  EXPECT_NE(page.find("<title>a&lt;b</title>"), std::string::npos);
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_NE(page.find("\\u003c/script>\\u003cscript>alert(1)"), std::string::npos);
  EXPECT_NE(page.find("<script>" + std::string(page_script()) + "</script>"), std::string::npos);
  EXPECT_EQ(page_script().find("</script"), std::string::npos);
  for (const char* part : {"eval(", "new Function", "import("}) EXPECT_EQ(page_script().find(part), std::string::npos) << part;
  EXPECT_NE(page_script().find("Apache License, Version 2.0"), std::string::npos);  // notices travel with the library
}

TEST(Document, APageWithoutChartsHasNoScript) {
  const std::string page = page_document({"en", "t", "<p>x</p>", false}, Charts());
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("script-src 'none'"), std::string::npos);
}

}  // namespace
}  // namespace tsubu
