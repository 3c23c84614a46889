#include "engine/numerics.h"

#include <fmt/format.h>

namespace tsubu {

bool Numerics::integer_products(size_t n_cols) const {
  if (!integer_kernels || !weights || !activations) return false;
  if (!weights->format->is_integer || !activations->format->is_integer) return false;
  const size_t a = weights->columns_per_scale(n_cols), b = activations->columns_per_scale(n_cols);
  return a == n_cols || b == n_cols || a % b == 0 || b % a == 0;
}

std::string Numerics::description() const {
  std::string text;
  const auto add = [&](std::string_view part) {
    if (!text.empty()) text += ", ";
    text += part;
  };
  if (weights) add("weights " + weights->name());
  if (activations) add("activations " + activations->name());
  if (linears()) add(with_head ? "every linear" : "linears of the blocks");
  if (linears()) add(integer_products() ? "integer products" : "products in float");
  if (outliers > 0) add(fmt::format("input columns beyond {:g} in float", outliers));
  if (!cache.keys.is_f32() || !cache.values.is_f32())
    add(fmt::format("keys {}, values {}", cache.keys.name(), cache.values.name()));
  return text;
}

}  // namespace tsubu
