// The list of rounding methods: what each does, what it needs to know, where it comes from.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "round/sim_round.h"

namespace tsubu {

struct RoundingMethod {
  std::string_view name;
  std::string_view needs;    // "nothing", "importance (optional)", "Gram matrices"
  std::string_view formats;  // what it can make
  std::string_view source;
  std::string_view summary;
  bool is_start;  // may come first in a spec for simulated formats
  SimStart start;
};

std::span<const RoundingMethod> rounding_methods();

// "START" or "START+refine"; "refine" alone is "search+refine". passes: of the descent. Throws Error(kUsage) with the
// nearest name.
SimMethod parse_sim_method(std::string_view spec, int passes);

}  // namespace tsubu
