// What a transform did, for people and for JSON.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tsubu {

struct TransformedGroup {
  std::vector<std::string> linears;
  double alpha = 0;                    // exponent of the scales; 0: left as it was
  double error_before = 0, error = 0;  // of what the transform lowers (its list says what), relative; 0: not measured
};

struct TransformReport {
  std::string_view name;
  std::vector<TransformedGroup> groups;
  std::vector<std::string> notes;
};

}  // namespace tsubu
