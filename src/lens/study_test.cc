#include "lens/study.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "engine/random_model.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

class Studying : public testing::Test {
 protected:
  Studying() : model(shape()), pool(2), path(fs::temp_directory_path() / ("tsubu-study-" + std::to_string(getpid()))) {
    for (uint32_t c = 0; c < 3; ++c) windows.push_back(random_tokens(24, 50, c));
    options.work_path = path.string();
    options.n_seeds = 1;
  }
  ~Studying() override { fs::remove(path); }
  static RandomModelOptions shape() {
    RandomModelOptions o;
    o.n_embd = o.n_ff = 32;
    return o;
  }
  RandomModel model;
  ThreadPool pool;
  fs::path path;
  std::vector<std::vector<TokenId>> windows;
  StudyOptions options;
};

TEST_F(Studying, EverythingIsMeasuredOnceAndHarmGrowsWithTheSquare) {
  const Study study = run_study(model, windows, options, pool);
  EXPECT_TRUE(study.left_out.empty());
  EXPECT_EQ(study.cells.size(), study.n_cells);
  std::set<std::string> ids;
  for (const auto& [cell, result] : study.cells) {
    EXPECT_TRUE(ids.insert(cell.id()).second) << cell.id();
    EXPECT_GE(result.kld, 0) << cell.id();
  }
  EXPECT_EQ(study.sensitivities.size(), 16u);  // seven linears of two layers, embedding and head
  const auto points = curve(study, "curves", Cell::What::kWeights, "gaussian");
  ASSERT_EQ(points.size(), 6u);
  const double slope = std::log(points[3].y / points[1].y) / std::log(points[3].x / points[1].x);
  EXPECT_NEAR(slope, 2, 0.2);
  const auto noise = equivalent_noise(study, points[2].y);
  ASSERT_TRUE(noise);
  EXPECT_NEAR(*noise, points[2].x, 1e-9);
  EXPECT_FALSE(equivalent_noise(study, 100 * points.back().y));  // ten times the largest r that was measured
  EXPECT_FALSE(findings(study).empty());
  for (const auto& [cell, result] : study.cells)
    if (cell.part == "codecs") {
      EXPECT_GT(result.r, 0) << cell.id();
    }
  // The page stands alone and holds every figure.
  const std::string page = study_page(study, Words(Language::kEnglish));
  const std::string before_script = page.substr(0, page.find("<script>"));
  EXPECT_EQ(before_script.find("http://"), std::string::npos);
  EXPECT_EQ(before_script.find("nan"), std::string::npos);
  size_t n_charts = 0;
  for (size_t at = page.find("data-chart="); at != page.npos; at = page.find("data-chart=", at + 1)) ++n_charts;
  EXPECT_GE(n_charts, 9u);
  EXPECT_NE(page.find("prefers-color-scheme:dark"), std::string::npos);
  const std::string japanese = study_page(study, Words(Language::kJapanese));
  EXPECT_NE(japanese.find("<html lang=\"ja\">"), std::string::npos);
  EXPECT_NE(japanese.find("感度：相対雑音の二乗あたりのダイバージェンス"), std::string::npos);
  for (const char* english : {"Numbers</summary>", "sensitivity", "Findings", "windows of"}) EXPECT_EQ(japanese.substr(0, japanese.find("<script>")).find(english), std::string::npos) << english;
}

TEST_F(Studying, MixturesAreStudied) {
  RandomModelOptions o = shape();
  o.n_experts = 3;
  o.kv_latent = o.value_dim = 32;
  o.head_dim = 40;
  const RandomModel mixture(o);
  const Study study = run_study(mixture, windows, options, pool);
  EXPECT_TRUE(study.left_out.empty());
  EXPECT_EQ(study.cells.size(), study.n_cells);
  for (const auto& [cell, result] : study.cells) EXPECT_GE(result.kld, 0) << cell.id();
  const auto points = curve(study, "curves", Cell::What::kActivations, "gaussian");
  ASSERT_GE(points.size(), 2u);
  for (const CurvePoint& p : points) EXPECT_GT(p.y, 0);
  // Of one layer: q, kv_a, k_b, v_b, output, three of the experts; router left alone; embedding and head.
  EXPECT_EQ(study.sensitivities.size(), 2u * 8 + 2);
  EXPECT_FALSE(findings(study).empty());
}

TEST_F(Studying, WithoutTimeItSaysWhatIsLeftOutAndGoesOnLater) {
  options.minutes = 0;
  const Study none = run_study(model, windows, options, pool);
  EXPECT_TRUE(none.cells.empty());
  EXPECT_GE(none.left_out.size(), 5u);
  EXPECT_FALSE(study_page(none, Words(Language::kEnglish)).empty());
  options.minutes = 10;
  const Study all = run_study(model, windows, options, pool);
  EXPECT_EQ(all.n_resumed, 0u);
  const Study again = run_study(model, windows, options, pool);
  EXPECT_EQ(again.n_resumed, all.cells.size() + all.sensitivities.size());
  Json a = to_json(all), b = to_json(again);
  for (Json* j : {&a, &b}) {
    j->erase("seconds");
    j->erase("resumed");
  }
  EXPECT_EQ(a["cells"], b["cells"]);
  EXPECT_EQ(a["sensitivities"], b["sensitivities"]);
  options.where = "ffn_down";  // another study
  EXPECT_EQ(run_study(model, windows, options, pool).n_resumed, 0u);
}

TEST_F(Studying, APlaceThatIsNotThereIsAnError) {
  for (const char* where : {"no_such", "["}) {
    options.where = where;
    EXPECT_THROW(run_study(model, windows, options, pool), Error) << where;
  }
}

}  // namespace
}  // namespace tsubu
