#include "cli/checks.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/file.h"

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

void check_can_create(const std::string& path) {
  std::error_code ignored;
  // A leftover is of an interrupted run: who writes the file will say so.
  if (!path.empty() && !std::filesystem::exists(AtomicFile::temporary_name(path), ignored)) AtomicFile probe(path);
}

}  // namespace tsubu
