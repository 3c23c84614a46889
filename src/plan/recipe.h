// Recipes: which type each tensor gets. A recipe is data (plan/recipes/*.json, embedded in the program; the schema is
// described in recipe.cc); the stock ones give every tensor of a Llama, Mistral, Qwen or GPT-2 shape the type that
// llama.cpp's recipe of the same name gives it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/model.h"

namespace tsubu {

struct RecipeRule {
  std::vector<std::string> roles;  // role_name() values, "output" also a tied embedding; empty: any
  std::vector<std::string> tensors;  // names of tensors, exactly; empty: any
  std::string layers;              // "", "more_bits", "middle", "first 1/8", "first 4"
  int min_gqa = 0;                 // query heads per key head at least
  int n_layers = 0;                // only in models of so many layers (the 70-billion-parameter shape has 80)
  int n_experts = 0;               // only in mixtures of exactly so many experts (Mixtral has 8)
  int min_experts = 0;             // only in mixtures of so many at least
  int stats = -1;                  // 1: only with an importance matrix, 0: only without, -1: either
  std::string type;
};

struct Recipe {
  std::string name, summary, default_type;
  std::vector<std::string> aliases;
  uint32_t file_type = 0;  // GGUF general.file_type
  bool needs_stats = false;
  std::vector<RecipeRule> rules;  // the first that matches wins
};

// The stock recipes, smallest first; a bare type name is a recipe too ("Q5_0": every matrix that type).
std::span<const Recipe> recipes();
// Throws Error(kUsage) with the nearest name.
Recipe recipe_named(std::string_view name);
Recipe recipe_from_json(const Json& json, const std::string& where);
Json to_json(const Recipe& recipe);

struct TypeOverride {
  std::string pattern;  // ECMAScript regular expression, searched in the tensor's name
  std::string type;
};
// The pattern that is found in this name alone.
std::string exact_pattern(std::string_view name);
// "PATTERN=TYPE"; throws Error(kUsage).
TypeOverride parse_type_override(std::string_view text);

bool rule_matches(const RecipeRule& rule, const TensorSpec& spec, const Hparams& h, bool has_stats);
// The type that the recipe alone gives a quantizable tensor: the first matching rule's, else the default's.
// rule: its number from 1, or 0.
struct RecipeChoice {
  std::string_view type;
  size_t rule;
};
RecipeChoice choose_type(const Recipe& recipe, const TensorSpec& spec, const Hparams& h, bool has_stats);

struct PlanOptions {
  bool pure = false;        // the recipe's default type for every matrix
  bool has_stats = false;   // an importance matrix is there
  std::string output_type, embedding_type;  // override the head and the embedding; empty: as the recipe says
  bool keep_output = false;                 // the head stays as it is
  std::string fallback;     // type for rows that do not fit the block; empty: the type that the codec names
  std::vector<TypeOverride> overrides;      // the first that matches wins
};

struct PlannedTensor {
  const ModelTensor* tensor = nullptr;
  const TypeInfo* type = nullptr;
  const TypeInfo* wanted = nullptr;  // differs from type when the rows do not fit the block
  std::string reason;                // "default", "rule 2: ffn_down more_bits", "override", "not quantizable", "fallback: …"
  uint64_t size_bytes = 0;
};

// One entry for each tensor of the model, in its order. Throws Error(kUsage) when an override matches nothing or names
// a type that cannot be encoded.
std::vector<PlannedTensor> assign_types(const Model& model, const Recipe& recipe, const PlanOptions& options);

}  // namespace tsubu
