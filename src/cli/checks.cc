#include "cli/checks.h"

#include <fmt/format.h>

namespace tsubu {

CLI::Validator number_between(double low, double high) {
  return CLI::Validator(
      [low, high](std::string& text) {
        double value = 0;
        const bool is_number = CLI::detail::lexical_cast(text, value);
        return is_number && value >= low && value <= high
                   ? std::string()
                   : fmt::format("'{}' is no number from {} to {}", text.substr(0, 64), low, high);
      },
      "");
}

}  // namespace tsubu
