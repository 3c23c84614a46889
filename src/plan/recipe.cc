// A recipe's JSON:
//   name, summary   what it is called and good for
//   aliases         other names it answers to
//   default         the type of every quantizable matrix that no rule names
//   file_type       GGUF's general.file_type
//   needs_stats     true: refused without an importance matrix
//   rules           the first that matches wins; each has `type` and conditions:
//     roles         role names; "output" is also the embedding when the head shares it
//     layers        "more_bits": the first and last eighth of the layers and every third between;
//                   "middle": all but the first and the last eighth;
//                   "first N" or "first 1/N": the first N layers, or the first n/N (rounded down)
//     min_gqa       query heads per key head at least
//     n_layers      only in models of exactly so many layers
//     stats         true: only with an importance matrix; false: only without
// Rows that are no multiple of a type's block take the stock fallback (fallback_of).
#include "plan/recipe.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/size.h"
#include "plan/embedded_recipes.h"

namespace tsubu {
namespace {

const std::string* string_at(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get_ptr<const std::string*>() : nullptr;
}

int int_at(const Json& json, const char* key, int otherwise) {
  const auto it = json.find(key);
  return it != json.end() && it->is_number_integer() ? it->get<int>() : otherwise;
}

int flag_at(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_boolean() ? static_cast<int>(it->get<bool>()) : -1;
}

std::string upper(std::string_view text) {
  std::string r(text);
  for (char& c : r)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  return r;
}

// How many layers "first N" or "first 1/N" means; nullopt when the text is neither.
std::optional<uint32_t> first_layers(std::string_view text, uint32_t n_layers) {
  constexpr std::string_view kFirst = "first ";
  if (!text.starts_with(kFirst)) return std::nullopt;
  text.remove_prefix(kFirst.size());
  const bool share = text.starts_with("1/");
  if (share) text.remove_prefix(2);
  uint32_t n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc() || end != text.data() + text.size() || n == 0) return std::nullopt;
  return share ? n_layers / n : n;
}

bool layer_matches(const std::string& selector, int layer, uint32_t n_layers) {
  if (selector.empty()) return true;
  if (layer < 0) return false;
  const uint32_t i = static_cast<uint32_t>(layer), eighth = n_layers / 8;
  if (selector == "more_bits") return i < eighth || i >= 7 * n_layers / 8 || (i - eighth) % 3 == 2;
  if (selector == "middle") return i >= eighth && i < 7 * n_layers / 8;
  const auto n = first_layers(selector, n_layers);
  return n && i < *n;
}

struct StockRecipes {
  std::vector<Recipe> recipes;
  std::vector<std::pair<std::string, size_t>> names;  // aliases too, upper case
};

const StockRecipes& stock() {
  static const StockRecipes all = [] {
    StockRecipes r;
    for (const EmbeddedRecipe* e = kEmbeddedRecipes; e->file_name; ++e)
      r.recipes.push_back(recipe_from_json(parse_json(e->text, e->file_name), e->file_name));
    std::stable_sort(r.recipes.begin(), r.recipes.end(), [](const Recipe& a, const Recipe& b) {
      const double bits_a = type_named(a.default_type).bits_per_weight();
      const double bits_b = type_named(b.default_type).bits_per_weight();
      return bits_a != bits_b ? bits_a < bits_b : a.rules.size() < b.rules.size();
    });
    for (size_t i = 0; i < r.recipes.size(); ++i) {
      r.names.emplace_back(upper(r.recipes[i].name), i);
      for (const std::string& alias : r.recipes[i].aliases) r.names.emplace_back(upper(alias), i);
    }
    return r;
  }();
  return all;
}

}  // namespace

bool rule_matches(const RecipeRule& rule, const TensorSpec& spec, const Hparams& h, bool has_stats) {
  const Role role = spec.role == Role::kTokenEmbedding && h.tied_embeddings ? Role::kOutput : spec.role;
  if (!rule.roles.empty() && std::find(rule.roles.begin(), rule.roles.end(), role_name(role)) == rule.roles.end())
    return false;
  if (rule.min_gqa > 0 && (h.n_kv_heads == 0 || static_cast<int>(h.n_heads / h.n_kv_heads) < rule.min_gqa)) return false;
  if (rule.n_layers > 0 && static_cast<int>(h.n_layers) != rule.n_layers) return false;
  if (rule.stats >= 0 && (rule.stats == 1) != has_stats) return false;
  return layer_matches(rule.layers, spec.layer, h.n_layers);
}

RecipeChoice choose_type(const Recipe& recipe, const TensorSpec& spec, const Hparams& h, bool has_stats) {
  for (size_t i = 0; i < recipe.rules.size(); ++i)
    if (rule_matches(recipe.rules[i], spec, h, has_stats)) return {recipe.rules[i].type, i + 1};
  return {recipe.default_type, 0};
}

std::span<const Recipe> recipes() { return stock().recipes; }

Recipe recipe_named(std::string_view name) {
  const std::string key = upper(name);
  for (const auto& [known, index] : stock().names)
    if (known == key) return stock().recipes[index];
  if (const TypeInfo* type = find_type(name); type && type->encode) {
    Recipe r;
    r.name = r.default_type = std::string(type->name);
    r.summary = "every matrix " + r.name;
    return r;
  }
  if (const TypeInfo* type = find_type(name))
    fail(ExitCode::kUnsupported, "type {} can be read but not written yet (`tsubu types` says which can)", type->name);
  std::vector<std::string> names;
  for (const auto& [known, index] : stock().names) names.push_back(known);
  const std::string near = nearest_name(key, names.data(), names.size());
  fail(ExitCode::kUsage, "unknown recipe or type '{}'{} (`tsubu recipes` lists them)", name,
       near.empty() ? "" : ": did you mean " + near + "?");
}

Recipe recipe_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) fail(ExitCode::kBadInput, "{}: a recipe is a JSON object", where);
  Recipe r;
  const std::string *name = string_at(json, "name"), *default_type = string_at(json, "default");
  if (!name || !default_type)
    fail(ExitCode::kBadInput, "{}: a recipe needs the strings \"name\" and \"default\" (a type)", where);
  r.name = *name;
  r.default_type = type_named(*default_type).name;
  if (const std::string* summary = string_at(json, "summary")) r.summary = *summary;
  r.file_type = static_cast<uint32_t>(int_at(json, "file_type", 0));
  r.needs_stats = flag_at(json, "needs_stats") == 1;
  if (const auto aliases = json.find("aliases"); aliases != json.end() && aliases->is_array())
    for (const Json& alias : *aliases)
      if (alias.is_string()) r.aliases.push_back(alias.get<std::string>());
  const auto rules = json.find("rules");
  if (rules == json.end()) return r;
  if (!rules->is_array()) fail(ExitCode::kBadInput, "{}: \"rules\" is no array", where);
  static constexpr const char* kKeys[] = {"roles", "layers", "min_gqa", "n_layers", "stats", "type"};
  for (const Json& item : *rules) {
    const size_t number = r.rules.size() + 1;
    if (!item.is_object() || !string_at(item, "type"))
      fail(ExitCode::kBadInput, "{}: rule {} is no object with a \"type\"", where, number);
    for (const auto& [key, value] : item.items())
      if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys))
        fail(ExitCode::kBadInput, "{}: rule {} has an unknown key \"{}\"", where, number, key);
    RecipeRule rule;
    if (const auto roles = item.find("roles"); roles != item.end() && roles->is_array())
      for (const Json& role : *roles)
        if (role.is_string()) rule.roles.push_back(role.get<std::string>());
    if (const std::string* layers = string_at(item, "layers")) rule.layers = *layers;
    if (!rule.layers.empty() && rule.layers != "more_bits" && rule.layers != "middle" && !first_layers(rule.layers, 1))
      fail(ExitCode::kBadInput,
           "{}: rule {}: layers \"{}\": expected \"more_bits\", \"middle\", \"first N\" or \"first 1/N\"", where, number,
           rule.layers);
    rule.min_gqa = int_at(item, "min_gqa", 0);
    rule.n_layers = int_at(item, "n_layers", 0);
    rule.stats = flag_at(item, "stats");
    rule.type = type_named(*string_at(item, "type")).name;
    r.rules.push_back(std::move(rule));
  }
  return r;
}

Json to_json(const Recipe& recipe) {
  Json json;
  json["name"] = recipe.name;
  json["summary"] = recipe.summary;
  if (!recipe.aliases.empty()) json["aliases"] = recipe.aliases;
  json["default"] = recipe.default_type;
  json["file_type"] = recipe.file_type;
  if (recipe.needs_stats) json["needs_stats"] = true;
  json["rules"] = Json::array();
  for (const RecipeRule& rule : recipe.rules) {
    Json item;
    if (!rule.roles.empty()) item["roles"] = rule.roles;
    if (!rule.layers.empty()) item["layers"] = rule.layers;
    if (rule.min_gqa > 0) item["min_gqa"] = rule.min_gqa;
    if (rule.n_layers > 0) item["n_layers"] = rule.n_layers;
    if (rule.stats >= 0) item["stats"] = rule.stats == 1;
    item["type"] = rule.type;
    json["rules"].push_back(std::move(item));
  }
  return json;
}

TypeOverride parse_type_override(std::string_view text) {
  const size_t equal = text.rfind('=');
  if (equal == std::string_view::npos || equal == 0 || equal + 1 == text.size())
    fail(ExitCode::kUsage, "'{}': expected PATTERN=TYPE, such as ffn_down=Q6_K", text);
  TypeOverride r{std::string(text.substr(0, equal)), std::string(type_named(text.substr(equal + 1)).name)};
  return r;
}

}  // namespace tsubu
