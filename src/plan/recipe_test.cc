#include "plan/recipe.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/error.h"

namespace tsubu {
namespace {

struct Shape {
  std::string name;
  const Architecture* architecture = nullptr;
  Hparams h;
  // (recipe, tensor name) → type, for those that differ from the recipe's default.
  std::map<std::pair<std::string, std::string>, std::string> types;
  std::set<std::string> recipes;
};

std::vector<int> layers_of(const std::string& ranges) {
  std::vector<int> r;
  std::istringstream in(ranges);
  std::string range;
  while (std::getline(in, range, ',')) {
    const size_t dash = range.find('-');
    const int first = std::stoi(range), last = dash == std::string::npos ? first : std::stoi(range.substr(dash + 1));
    for (int i = first; i <= last; ++i) r.push_back(i);
  }
  return r;
}

std::vector<Shape> golden_shapes() {
  std::ifstream in(TSUBU_SOURCE_DIR "/tests/golden/stock_recipes.txt");
  std::vector<Shape> shapes;
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with("#")) continue;
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (first == "model") {
      Shape s;
      std::string architecture;
      words >> architecture >> s.name;
      s.architecture = find_architecture(architecture);
      s.h.architecture = architecture;
      words >> s.h.n_layers >> s.h.n_embd >> s.h.n_ff >> s.h.n_vocab >> s.h.n_heads >> s.h.n_kv_heads >> s.h.head_dim;
      s.h.rope_dims = s.h.head_dim;
      if (words >> s.h.n_experts >> s.h.n_experts_used) s.h.n_ff_expert = s.h.n_ff;
      s.h.n_ctx = 4096;
      shapes.push_back(std::move(s));
      continue;
    }
    std::string type, tensor, ranges;
    words >> type;
    Shape& s = shapes.back();
    s.recipes.insert(first);
    if (type == "default") continue;
    words >> tensor >> ranges;
    if (ranges.empty()) s.types[{first, tensor + ".weight"}] = type;
    for (int layer : layers_of(ranges)) s.types[{first, fmt::format("blk.{}.{}.weight", layer, tensor)}] = type;
  }
  return shapes;
}

TEST(recipe, gives_every_tensor_the_type_that_llama_cpp_gives_it) {
  const auto shapes = golden_shapes();
  ASSERT_EQ(shapes.size(), 6u);
  for (const Shape& s : shapes) {
    ASSERT_NE(s.architecture, nullptr) << s.name;
    EXPECT_EQ(s.recipes.size(), s.h.n_experts > 0 ? 32u : 31u) << s.name;
    for (const std::string& name : s.recipes) {
      const Recipe recipe = recipe_named(name);
      size_t checked = 0;
      for (const TensorSpec& spec : s.architecture->tensors(s.h)) {
        if (!spec.quantizable) continue;
        const auto golden = s.types.find({name, spec.name});
        const std::string expected = golden == s.types.end() ? recipe.default_type : golden->second;
        EXPECT_EQ(choose_type(recipe, spec, s.h, false).type, expected) << s.name << " " << name << " " << spec.name;
        ++checked;
      }
      EXPECT_EQ(checked, 7 * s.h.n_layers + 2) << s.name;
    }
  }
}

TEST(recipe, first_ffn_down_layers_of_q4_0_have_a_minimum_with_an_importance_matrix) {
  TensorSpec down;
  down.role = Role::kFfnDown;
  Hparams h;
  h.n_layers = 16;
  const Recipe recipe = recipe_named("q4_0");
  for (int layer : {0, 1, 2, 15}) {
    down.layer = layer;
    EXPECT_EQ(choose_type(recipe, down, h, true).type, layer < 2 ? "Q4_1" : "Q4_0");
    EXPECT_EQ(choose_type(recipe, down, h, false).type, "Q4_0");
  }
}

TEST(recipe, a_tied_embedding_is_the_output) {
  TensorSpec embedding;
  embedding.role = Role::kTokenEmbedding;
  Hparams h;
  h.n_layers = 16;
  EXPECT_EQ(choose_type(recipe_named("Q4_K_M"), embedding, h, false).type, "Q4_K");
  h.tied_embeddings = true;
  EXPECT_EQ(choose_type(recipe_named("Q4_K_M"), embedding, h, false).type, "Q6_K");
}

TEST(recipe, names_aliases_and_types) {
  EXPECT_EQ(recipe_named("q4_k_m").name, "Q4_K_M");
  EXPECT_EQ(recipe_named("Q4_K").name, "Q4_K_M");
  EXPECT_EQ(recipe_named("Q3_K").name, "Q3_K_M");
  try {
    recipe_named("Q4_K_X");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("Q4_K_"), std::string::npos);
  }
}

TEST(recipe, survives_its_own_json) {
  for (const Recipe& recipe : recipes()) {
    const Json json = to_json(recipe);
    EXPECT_EQ(to_json(recipe_from_json(json, "test")), json) << recipe.name;
    EXPECT_NE(find_type(recipe.default_type), nullptr);
  }
}

TEST(recipe, says_what_is_wrong_with_a_file) {
  const auto message = [](const char* text) -> std::string {
    try {
      recipe_from_json(parse_json(text, "r.json"), "r.json");
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("[]").find("r.json: expected a JSON object, found []"), std::string::npos);
  EXPECT_NE(message(R"({"name":"x"})").find("default"), std::string::npos);
  EXPECT_NE(message(R"({"name":"x","default":"Q9_K"})").find("Q9_K"), std::string::npos);
  EXPECT_NE(message(R"({"name":"x","default":"Q4_K","rules":[{"roles":["output"]}]})").find("rule 1"), std::string::npos);
  EXPECT_NE(message(R"({"name":"x","default":"Q4_K","rules":[{"role":"v","type":"Q6_K"}]})").find("\"role\""),
            std::string::npos);
  const auto expect_all = [&](const std::string& members, std::initializer_list<const char*> parts) {
    const std::string text = message((R"({"name":"x","default":"Q4_K",)" + members + "}").c_str());
    for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  };
  expect_all(R"("summary":7)", {"r.json", "\"summary\"", "string", "found 7"});
  expect_all(R"("aliases":"Q4")", {"\"aliases\"", "list of strings", "found \"Q4\""});
  expect_all(R"("aliases":[1])", {"\"aliases\"", "list of strings", "found [1]"});
  expect_all(R"("file_type":"7")", {"\"file_type\"", "integer", "found \"7\""});
  expect_all(R"("file_type":-1)", {"\"file_type\"", "integer", "found -1"});
  expect_all(R"("needs_stats":1)", {"\"needs_stats\"", "true or false", "found 1"});
  expect_all(R"("rules":{})", {"\"rules\"", "list", "found {}"});
  expect_all(R"("rule":[])", {"unknown key \"rule\"", "did you mean \"rules\""});
  expect_all(R"("rules":[7])", {"rule 1", "object", "found 7"});
  expect_all(R"("rules":[{"type":"Q6_K"},{"type":6}])", {"rule 2", "\"type\"", "string", "found 6"});
  expect_all(R"("rules":[{"type":"Q6_J"}])", {"rule 1", "\"type\"", "Q6_J", "Q6_K"});
  expect_all(R"("rules":[{"roles":"ffn_down","type":"Q6_K"}])", {"rule 1", "\"roles\"", "found \"ffn_down\""});
  expect_all(R"("rules":[{"roles":["ffn_dwn"],"type":"Q6_K"}])", {"rule 1", "\"roles\"", "ffn_down", "ffn_dwn"});
  expect_all(R"("rules":[{"min_gqa":2.5,"type":"Q6_K"}])", {"rule 1", "\"min_gqa\"", "integer", "found 2.5"});
  expect_all(R"("rules":[{"stats":"yes","type":"Q6_K"}])", {"rule 1", "\"stats\"", "true or false", "found \"yes\""});
  expect_all(R"("rules":[{"layers":3,"type":"Q6_K"}])", {"rule 1", "\"layers\"", "string", "found 3"});
  EXPECT_NE(message(R"({"name":"x","default":"Q4_K","rules":[{"layers":"last 3","type":"Q6_K"}]})").find("last 3"),
            std::string::npos);
}

TEST(recipe, overrides_are_pattern_and_type) {
  const TypeOverride o = parse_type_override("blk\\.0\\.ffn=q6_k");
  EXPECT_EQ(o.pattern, "blk\\.0\\.ffn");
  EXPECT_EQ(o.type, "Q6_K");
  for (const char* bad : {"Q6_K", "=Q6_K", "x=", "x=Q77"}) EXPECT_THROW(parse_type_override(bad), Error) << bad;
}

}  // namespace
}  // namespace tsubu
