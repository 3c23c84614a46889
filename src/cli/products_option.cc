#include "cli/products_option.h"

#include "base/error.h"
#include "engine/engine.h"

namespace tsubu {

std::optional<Products> products_named(const std::string& name) {
  if (name == "auto") return {};
  if (name == "f32") return Products::kF32;
  if (name == "bf16") return Products::kBf16;
  fail(ExitCode::kUsage, "--products {}: expected auto, f32 or bf16", name);
}

void declare_products(CLI::App& app, std::string& name) {
  app.add_option("--products", name,
                 "Products of linears: f32; bf16 (faster where the machine multiplies it, less exact); auto: bf16 for models "
                 "of more than 200 million weights where it is faster (default)")
      ->type_name("NAME");
}

bool takes_bf16(const std::string& name, const Model& model, bool other_numbers) {
  const std::optional<Products> asked = products_named(name);
  if (asked == Products::kBf16 && other_numbers)
    fail(ExitCode::kUsage, "--products bf16 does not go with 8-bit activations or schemes: give one of them");
  if (asked) return *asked == Products::kBf16;
  return !other_numbers && bf16_products_pay(model);
}

}  // namespace tsubu
