// Types for every tensor of a model: overrides, then the recipe's rules, then what fits the row length.
#include <regex>

#include "base/error.h"
#include "plan/recipe.h"

namespace tsubu {
namespace {

// For rows that do not fit the wanted type's block: --fallback, then the type that the codec names, else F16.
const TypeInfo& fitting_type(const TypeInfo& wanted, uint64_t n_cols, const std::string& fallback) {
  if (n_cols % wanted.block_len == 0) return wanted;
  if (!fallback.empty()) {
    const TypeInfo& type = type_named(fallback);
    if (type.encode && n_cols % type.block_len == 0) return type;
  }
  if (const TypeInfo* type = find_type(wanted.fallback); type && type->encode && n_cols % type->block_len == 0)
    return *type;
  return type_named("F16");
}

const TypeInfo& encodable_type(std::string_view name) {
  const TypeInfo& type = type_named(name);
  if (!type.encode) fail(ExitCode::kUnsupported, "type {} can be read but not written yet (`tsubu types` says which can)", type.name);
  return type;
}

struct CompiledOverride {
  std::regex pattern;
  const TypeInfo* type;
  bool used = false;
};

std::vector<CompiledOverride> compile(const std::vector<TypeOverride>& overrides) {
  std::vector<CompiledOverride> r;
  for (const TypeOverride& o : overrides) {
    try {
      r.push_back({std::regex(o.pattern, std::regex::ECMAScript), &encodable_type(o.type)});
    } catch (const std::regex_error& e) {
      fail(ExitCode::kUsage, "--tensor-type '{}': not a regular expression: {}", o.pattern, e.what());
    }
  }
  return r;
}

}  // namespace

std::vector<PlannedTensor> assign_types(const Model& model, const Recipe& recipe, const PlanOptions& options) {
  if (recipe.needs_stats && !options.has_stats && !options.pure)
    fail(ExitCode::kUsage,
         "recipe {} wants to know the activations: give calibration text with --text, or an importance matrix with --stats",
         recipe.name);
  const Hparams& h = model.hparams();
  const TypeInfo& default_type = encodable_type(recipe.default_type);
  const std::string_view head = head_weight_name(model) == "output.weight" ? "output.weight" : "token_embd.weight";
  auto overrides = compile(options.overrides);

  std::vector<PlannedTensor> plan;
  plan.reserve(model.tensors().size());
  for (const ModelTensor& tensor : model.tensors()) {
    PlannedTensor p;
    p.tensor = &tensor;
    const Role role = tensor.spec().role;
    const auto choose = [&](const TypeInfo& type, std::string reason) {
      p.wanted = &type;
      p.reason = std::move(reason);
    };
    bool overridden = false;
    if (tensor.spec().quantizable)
      for (size_t i = 0; i < overrides.size() && !overridden; ++i)
        if (std::regex_search(tensor.name(), overrides[i].pattern)) {
          overrides[i].used = overridden = true;
          choose(*overrides[i].type, "override: " + options.overrides[i].pattern);
        }
    if (overridden) {
    } else if (!tensor.spec().quantizable) {
      // Vectors and the like stay exact: F32, or as a GGUF source has them.
      choose(model.layout() == "gguf" ? tensor.type() : type_named("F32"), "not quantized");
    } else if (options.keep_output && tensor.name() == head) {
      choose(tensor.type(), "kept: --keep-output");
    } else if (role == Role::kOutput && !options.output_type.empty()) {
      choose(encodable_type(options.output_type), "--output-type");
    } else if (role == Role::kTokenEmbedding && !options.embedding_type.empty()) {
      choose(encodable_type(options.embedding_type), "--embedding-type");
    } else if (tensor.name() == head && !options.output_type.empty()) {
      choose(encodable_type(options.output_type), "--output-type");
    } else {
      const RecipeChoice choice = choose_type(recipe, tensor.spec(), h, options.has_stats);
      if (options.pure || choice.rule == 0)
        choose(default_type, "default");
      else
        choose(encodable_type(choice.type), fmt::format("rule {}", choice.rule));
    }
    p.type = p.wanted;
    if (tensor.n_cols() % p.wanted->block_len != 0) {
      p.type = &fitting_type(*p.wanted, tensor.n_cols(), options.fallback);
      p.reason = fmt::format("fallback from {}: {} columns are no multiple of {}", p.wanted->name, tensor.n_cols(),
                             p.wanted->block_len);
    }
    p.size_bytes = tensor_bytes(*p.type, tensor.n_rows(), tensor.n_cols());
    plan.push_back(std::move(p));
  }
  for (size_t i = 0; i < overrides.size(); ++i)
    if (!overrides[i].used)
      fail(ExitCode::kUsage, "--tensor-type '{}' matches no quantizable tensor (`tsubu inspect --tensors` lists the names)",
           options.overrides[i].pattern);
  return plan;
}

}  // namespace tsubu
