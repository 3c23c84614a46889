#include "pipeline/layout_choices.h"

#include <algorithm>
#include <charconv>
#include <regex>

#include "base/error.h"
#include "codec/type_info.h"
#include "model/graph.h"
#include "pipeline/hf_tensors.h"

namespace tsubu {
namespace {

// A GGUF type and the scheme with the same grid.
struct Equal {
  std::string_view type, scheme;  // scheme: empty for floats
  uint64_t group_size;
};
constexpr Equal kEquals[] = {
    {"Q4_0", "W4A16", 32}, {"Q4_1", "W4A16_ASYM", 32}, {"Q8_0", "W8A16", 32}, {"MXFP4", "MXFP4A16", 0},
    {"NVFP4", "NVFP4A16", 0}, {"F16", "", 0},          {"BF16", "", 0},       {"F32", "", 0},
};

std::string names_of_equals() {
  std::string names;
  for (const Equal& e : kEquals) names += (names.empty() ? "" : ", ") + std::string(e.type);
  return names;
}

std::vector<const TensorSpec*> linears_of(const Model& model, const std::vector<TensorSpec>& specs) {
  const std::string head = head_weight_name(model);
  std::vector<const TensorSpec*> linears;
  const auto add = [&](const std::vector<std::string>& names) {
    for (const std::string& name : names)
      for (const TensorSpec& spec : specs) {
        if (spec.name != name || name == head || !spec.quantizable) continue;
        // Not the experts that are one tensor in Hugging Face: no layout with several schemes holds them.
        if (!spec.hf_parts.empty() || (!spec.hf_name.empty() && spec.shape.size() == 2)) linears.push_back(&spec);
      }
  };
  for (const LinearGroup& group : linear_groups(model.graph())) add(group.linears);
  for (const ExpertGroup& group : expert_groups(model.graph())) add(group.linears);
  return linears;
}

bool matches_any(const std::vector<std::string>& names, const std::regex& pattern) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return std::regex_search(name, pattern); });
}

void need_groups(std::string_view method) {
  if (method != "compressed-tensors")
    fail(ExitCode::kUsage, "--format {}: its configuration has one scheme for all linears (compressed-tensors takes several)",
         method);
}

std::string describe(const LayoutChoice& choice) {
  if (!choice.scheme) return "float";
  if (choice.group_size == 0) return std::string(choice.scheme->name);
  return fmt::format("{}:{}", choice.scheme->name, choice.group_size);
}

std::string describe(const LayoutChoices& choices, const std::string& name) {
  const auto it = choices.find(name);
  return it == choices.end() ? "the scheme of --to" : describe(it->second);
}

}  // namespace

LayoutChoice parse_layout_choice(std::string_view method, std::string_view text) {
  if (text == "float") return {};
  const size_t colon = text.find(':');
  LayoutChoice choice{&layout_scheme(method, text.substr(0, colon)), 0};
  if (colon == std::string_view::npos) return choice;
  const std::string_view size = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), choice.group_size);
  if (error != std::errc() || end != size.data() + size.size() || choice.group_size < 2 || choice.group_size > 1 << 20)
    fail(ExitCode::kUsage, "scheme {}: expected a group size from 2 to 1048576 after the colon, found \"{}\"",
         text.substr(0, 64), size.substr(0, 64));
  return choice;
}

LayoutChoices choices_of_recipe(const Model& model, const Recipe& recipe, const PlanOptions& options,
                                std::string_view method) {
  need_groups(method);
  std::map<std::string, const TypeInfo*> type_of;
  for (const PlannedTensor& p : assign_types(model, recipe, options)) type_of[p.tensor->name()] = p.type;
  const std::vector<TensorSpec> specs = model.architecture().tensors(model.hparams());
  LayoutChoices choices;
  for (const TensorSpec* spec : linears_of(model, specs)) {
    const TypeInfo& type = *type_of.at(spec->name);
    const Equal* equal = nullptr;
    for (const Equal& e : kEquals)
      if (e.type == type.name) equal = &e;
    if (!equal)
      fail(ExitCode::kUsage, "tensor {}: recipe {} gives it type {}, which has no equal in {} (those that have: {})",
           spec->name, recipe.name, type.name, method, names_of_equals());
    choices[spec->name] = equal->scheme.empty() ? LayoutChoice{}
                                                : LayoutChoice{&layout_scheme(method, equal->scheme), equal->group_size};
  }
  return choices;
}

Json to_json(const LayoutChoices& choices) {
  Json json = Json::object();
  for (const auto& [name, choice] : choices) json[name] = describe(choice);
  return json;
}

LayoutChoices choices_from_json(const Json& json, std::string_view method, const std::string& where) {
  if (!json.is_object()) fail(ExitCode::kBadInput, "{}: expected an object of tensors", where);
  LayoutChoices choices;
  for (const auto& [name, text] : json.items()) {
    if (!text.is_string()) fail(ExitCode::kBadInput, "{}: {}: expected a scheme's name", where, name);
    choices[name] = parse_layout_choice(method, text.get<std::string>());
  }
  return choices;
}

void override_choices(const Model& model, std::span<const std::string> overrides, std::string_view method,
                      LayoutChoices& choices) {
  if (overrides.empty()) return;
  need_groups(method);
  const std::vector<TensorSpec> specs = model.architecture().tensors(model.hparams());
  std::vector<const TensorSpec*> linears = linears_of(model, specs);
  for (const TensorSpec& spec : specs)  // keys and values of heads, one matrix in Hugging Face, under the keys' name
    if (spec.head_rows > 0 && spec.head_first == 0) linears.push_back(&spec);
  std::map<std::string, LayoutChoice> chosen;
  for (const std::string& text : overrides) {
    const size_t equals = text.rfind('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
      fail(ExitCode::kUsage, "--tensor-type {}: expected PATTERN=SCHEME, such as down_proj=W8A16", text);
    const LayoutChoice choice = parse_layout_choice(method, std::string_view(text).substr(equals + 1));
    std::regex pattern;
    try {
      pattern = std::regex(text.substr(0, equals));
    } catch (const std::regex_error& e) {
      fail(ExitCode::kUsage, "--tensor-type {}: not a regular expression ({})", text, e.what());
    }
    bool any = false;
    for (const TensorSpec* spec : linears)
      if (std::regex_search(spec->name, pattern) || matches_any(hf_modules(*spec), pattern)) {
        chosen.emplace(spec->name, choice);
        any = true;
      }
    if (!any)
      fail(ExitCode::kUsage, "--tensor-type {}: no linear's name matches (such as {} or {})", text,
           hf_modules(*linears.front()).front(), linears.front()->name);
  }
  for (const auto& [name, choice] : chosen) choices[name] = choice;
}

void check_fused(const Model& model, const LayoutChoices& choices) {
  const auto check = [&](const std::vector<std::string>& linears) {
    for (const std::string& name : linears) {
      const std::string &first = linears.front(), here = describe(choices, name), there = describe(choices, first);
      if (here != there)
        fail(ExitCode::kUsage,
             "{} would get {} and {} {}: runtimes multiply them together and need one scheme (plan with --fused, or let the "
             "pattern match both)",
             first, there, name, here);
    }
  };
  for (const LinearGroup& group : linear_groups(model.graph())) check(group.linears);
  for (const ExpertGroup& group : expert_groups(model.graph())) check(group.linears);
}

std::vector<LayoutConfigGroup> config_groups(std::span<const ChosenLinear> linears) {
  const std::vector<std::string> all = {"Linear"};
  std::vector<LayoutConfigGroup> groups;
  const auto group_of = [&](const LayoutRecipe& r) -> LayoutConfigGroup& {
    for (LayoutConfigGroup& g : groups)
      if (g.recipe.scheme == r.scheme && g.recipe.group_size == r.group_size) return g;
    return groups.emplace_back(LayoutConfigGroup{r, {}});
  };
  for (const ChosenLinear& l : linears)
    if (!l.is_own) group_of(l.recipe).modules = all;
  for (const ChosenLinear& l : linears) {
    if (!l.is_own) continue;
    LayoutConfigGroup& group = group_of(l.recipe);
    if (group.modules != all) group.modules.push_back(l.module);
  }
  return groups;
}

Json choices_config(const Model& model, const LayoutChoices& choices, std::string_view dtype) {
  const std::vector<TensorSpec> specs = model.architecture().tensors(model.hparams());
  std::vector<ChosenLinear> chosen;
  std::vector<std::string> ignored;
  for (const TensorSpec* spec : linears_of(model, specs)) {
    const LayoutChoice& choice = choices.at(spec->name);
    const std::vector<std::string> modules = hf_modules(*spec);
    if (!choice.scheme) {
      ignored.insert(ignored.end(), modules.begin(), modules.end());
      continue;
    }
    LayoutRecipe recipe;
    recipe.scheme = choice.scheme;
    recipe.group_size = choice.group_size;
    recipe.model_dtype = dtype;
    for (const std::string& module : modules) chosen.push_back({module, recipe, true});
  }
  for (const TensorSpec& spec : specs)  // routers
    if (!spec.quantizable && spec.shape.size() == 2 && spec.role == Role::kOther) ignored.push_back(hf_module(spec.hf_name));
  ignored.emplace_back("lm_head");
  return quantization_config(config_groups(chosen), ignored);
}

std::vector<const TypeInfo*> types_with_schemes(std::string_view method) {
  need_groups(method);
  std::vector<const TypeInfo*> types;
  for (const Equal& e : kEquals) types.push_back(&type_named(e.type));
  return types;
}

}  // namespace tsubu
