// Whether measuring a model takes bfloat16 products by default.
#include "engine/engine.h"
#include "kernel/kernels.h"

namespace tsubu {

bool bf16_products_pay(const Model& model) {
  constexpr uint64_t kLarge = 200'000'000;  // weights of linears; below, f32 takes seconds
  if (!kernels().native_bf16) return false;
  uint64_t weights = 0;
  for (const Op& op : model.graph().ops)
    if (op.kind == OpKind::kLinear) weights += model.tensor(op.weight).n_elements();
  return weights > kLarge;
}

}  // namespace tsubu
