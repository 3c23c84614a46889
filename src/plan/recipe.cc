// A recipe's JSON:
//   name, summary   what it is called and good for
//   aliases         other names it answers to
//   default         the type of every quantizable matrix that no rule names
//   file_type       GGUF's general.file_type
//   needs_stats     true: refused without an importance matrix
//   rules           the first that matches wins; each has `type` and conditions:
//     roles         role names; "output" is also the embedding when the head shares it
//     tensors       names of tensors, in full
//     layers        "more_bits": the first and last eighth of the layers and every third between;
//                   "middle": all but the first and the last eighth;
//                   "first N" or "first 1/N": the first N layers, or the first n/N (rounded down)
//     min_gqa       query heads per key head at least
//     n_layers      only in models of exactly so many layers
//     n_experts     only in mixtures of exactly so many experts
//     min_experts   only in mixtures of so many experts at least
//     stats         true: only with an importance matrix; false: only without
// Rows that are no multiple of a type's block take the fallback that the codec names (TypeInfo::fallback).
#include "plan/recipe.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <optional>

#include "base/error.h"
#include "base/size.h"
#include "plan/embedded_recipes.h"

namespace tsubu {
namespace {

// One object of a recipe: its keys are read by kind; what is of another kind, or unknown, is an error that says where.
class RecipeObject {
 public:
  RecipeObject(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {
    if (!json.is_object())
      fail(ExitCode::kBadInput, "{}: expected a JSON object, found {}", where_, found(json));
  }

  const Json* find(const char* key) const {
    const auto it = json_->find(key);
    return it == json_->end() ? nullptr : &*it;
  }

  std::string text(const char* key) const { return text_or(key, nullptr); }  // must be there
  std::string text_or(const char* key, const char* otherwise) const {
    const Json* value = find(key);
    if (!value && otherwise) return otherwise;
    if (!value || !value->is_string()) refuse(key, "a string", value);
    return value->get<std::string>();
  }
  uint32_t count_or(const char* key, uint32_t otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_number_integer() || *value < 0 || *value > kMaxCount)
      refuse(key, fmt::format("an integer from 0 to {}", kMaxCount), value);
    return value->get<uint32_t>();
  }
  std::optional<bool> flag(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_boolean()) refuse(key, "true or false", value);
    return value->get<bool>();
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> r;
    const Json* value = find(key);
    if (!value) return r;
    const auto is_text = [](const Json& item) { return item.is_string(); };
    if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_text)) refuse(key, "a list of strings", value);
    for (const Json& item : *value) r.push_back(item.get<std::string>());
    return r;
  }
  std::string type(const char* key) const { return std::string(type_of(text(key), key).name); }

  void check_keys(std::initializer_list<std::string> known) const {
    for (const auto& [key, value] : json_->items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      const std::string near = nearest_name(key.substr(0, 64), known.begin(), known.size());
      fail(ExitCode::kBadInput, "{}: unknown key \"{}\"{} (known: {})", where_, key.substr(0, 64),
           near.empty() ? "" : ": did you mean \"" + near + "\"?", fmt::join(known, ", "));
    }
  }

  [[noreturn]] void refuse(const char* key, const std::string& expected, const Json* value) const {
    fail(ExitCode::kBadInput, "{}: \"{}\": expected {}, found {}", where_, key, expected,
         value ? found(*value) : "nothing");
  }

 private:
  static constexpr uint32_t kMaxCount = 1 << 20;

  const TypeInfo& type_of(const std::string& name, const char* key) const {
    try {
      return type_named(name);
    } catch (const Error& e) {
      fail(ExitCode::kBadInput, "{}: \"{}\": {}", where_, key, e.what());
    }
  }

  static std::string found(const Json& value) {
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() <= 60 ? text : fmt::format("{} of {} bytes", value.type_name(), text.size());
  }

  const Json* json_;
  std::string where_;
};

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

bool is_role_name(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(Role::kOther); ++i)
    if (role_name(static_cast<Role>(i)) == name) return true;
  return false;
}

std::string role_names() {
  std::string names;
  for (int i = 0; i <= static_cast<int>(Role::kOther); ++i)
    names += (i > 0 ? ", " : "") + std::string(role_name(static_cast<Role>(i)));
  return names;
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
  if (!rule.tensors.empty() && std::find(rule.tensors.begin(), rule.tensors.end(), spec.name) == rule.tensors.end())
    return false;
  if (rule.min_gqa > 0 && (h.n_kv_heads == 0 || static_cast<int>(h.n_heads / h.n_kv_heads) < rule.min_gqa)) return false;
  if (rule.n_layers > 0 && static_cast<int>(h.n_layers) != rule.n_layers) return false;
  if (rule.n_experts > 0 && static_cast<int>(h.n_experts) != rule.n_experts) return false;
  if (static_cast<int>(h.n_experts) < rule.min_experts) return false;
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

namespace {

RecipeRule rule_from_json(const Json& json, const std::string& where) {
  const RecipeObject object(json, where);
  object.check_keys({"roles", "tensors", "layers", "min_gqa", "n_layers", "n_experts", "min_experts", "stats", "type"});
  RecipeRule rule;
  rule.type = object.type("type");
  rule.roles = object.texts("roles");
  for (const std::string& role : rule.roles)
    if (!is_role_name(role)) object.refuse("roles", "names of roles: " + role_names(), object.find("roles"));
  rule.tensors = object.texts("tensors");
  rule.layers = object.text_or("layers", "");
  if (!rule.layers.empty() && rule.layers != "more_bits" && rule.layers != "middle" && !first_layers(rule.layers, 1))
    object.refuse("layers", "\"more_bits\", \"middle\", \"first N\" or \"first 1/N\"", object.find("layers"));
  rule.min_gqa = static_cast<int>(object.count_or("min_gqa", 0));
  rule.n_layers = static_cast<int>(object.count_or("n_layers", 0));
  rule.n_experts = static_cast<int>(object.count_or("n_experts", 0));
  rule.min_experts = static_cast<int>(object.count_or("min_experts", 0));
  if (const auto stats = object.flag("stats")) rule.stats = *stats ? 1 : 0;
  return rule;
}

}  // namespace

Recipe recipe_from_json(const Json& json, const std::string& where) {
  const RecipeObject object(json, where);
  object.check_keys({"name", "summary", "aliases", "default", "file_type", "needs_stats", "rules"});
  Recipe r;
  r.name = object.text("name");
  r.default_type = object.type("default");
  r.summary = object.text_or("summary", "");
  r.file_type = object.count_or("file_type", 0);
  r.needs_stats = object.flag("needs_stats").value_or(false);
  r.aliases = object.texts("aliases");
  const Json* rules = object.find("rules");
  if (!rules) return r;
  if (!rules->is_array()) object.refuse("rules", "a list of rules", rules);
  for (const Json& rule : *rules)
    r.rules.push_back(rule_from_json(rule, fmt::format("{}: rule {}", where, r.rules.size() + 1)));
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
    if (!rule.tensors.empty()) item["tensors"] = rule.tensors;
    if (!rule.layers.empty()) item["layers"] = rule.layers;
    if (rule.min_gqa > 0) item["min_gqa"] = rule.min_gqa;
    if (rule.n_layers > 0) item["n_layers"] = rule.n_layers;
    if (rule.n_experts > 0) item["n_experts"] = rule.n_experts;
    if (rule.min_experts > 0) item["min_experts"] = rule.min_experts;
    if (rule.stats >= 0) item["stats"] = rule.stats == 1;
    item["type"] = rule.type;
    json["rules"].push_back(std::move(item));
  }
  return json;
}

std::string exact_pattern(std::string_view name) {
  std::string pattern = "^";
  for (char c : name) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  return pattern + "$";
}

TypeOverride parse_type_override(std::string_view text) {
  const size_t equal = text.rfind('=');
  if (equal == std::string_view::npos || equal == 0 || equal + 1 == text.size())
    fail(ExitCode::kUsage, "'{}': expected PATTERN=TYPE, such as ffn_down=Q6_K", text);
  TypeOverride r{std::string(text.substr(0, equal)), std::string(type_named(text.substr(equal + 1)).name)};
  return r;
}

}  // namespace tsubu
