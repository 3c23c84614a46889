// JSON: nlohmann's library behind one name, with errors of ours and limits for text that comes from a file.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace tsubu {

// Keys keep the order in which they were added, so that output is stable.
using Json = nlohmann::ordered_json;

// Parses text that came from `where` (a path, for the message). Throws Error(kBadInput) with the byte offset on bad
// syntax, nesting deeper than 64, NUL bytes or invalid UTF-8. Duplicate object keys are an error when reject_duplicates is set.
Json parse_json(std::string_view text, const std::string& where, bool reject_duplicates = false);

// One document as tsubu prints it: two spaces of indent, a final newline; invalid UTF-8 is replaced.
std::string dump_json(const Json& json);

}  // namespace tsubu
