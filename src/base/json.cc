#include "base/json.h"

#include <unordered_set>
#include <vector>

#include "base/error.h"

namespace tsubu {

Json parse_json(std::string_view text, const std::string& where, bool reject_duplicates) {
  constexpr int kMaxDepth = 64;
  std::vector<std::unordered_set<std::string>> keys;
  std::string problem;
  Json::parser_callback_t check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > kMaxDepth)
      fail(ExitCode::kBadInput, "{}: JSON is nested deeper than {} levels", where, kMaxDepth);
    if (!reject_duplicates) return true;
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end && !keys.empty()) keys.pop_back();
    if (event == Event::key && !keys.empty() && !keys.back().insert(parsed.get<std::string>()).second)
      fail(ExitCode::kBadInput, "{}: JSON key '{}' appears twice in one object", where, parsed.get<std::string>());
    return true;
  };
  // The library takes a NUL for the end of its input, which would hide whatever follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    fail(ExitCode::kBadInput, "{}@{:#x}: not valid JSON: expected text, found a NUL byte", where, nul);
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::exception& e) {
    fail(ExitCode::kBadInput, "{}: not valid JSON: {}", where, e.what());
  }
}

std::string dump_json(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace tsubu
