// Names on the hub: of models (`org/name[@revision][:choice]`), and of the files in them, which come from a server and
// become paths here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tsubu {

struct HubName {
  std::string id;                 // "org/name"
  std::string revision = "main";  // a branch, a tag or a commit
  std::string choice;             // ":…", one GGUF file of several: its name, or its type ("Q4_K_M"); may be empty

  std::string text() const;  // as it is written
};

// "hf://org/name…" always; "org/name…" when it can be nothing else: no such path, no folder of the first part's name, no
// file ending. Empty: text is a path. Throws Error(kUsage) for a name that starts with hf:// and is none.
std::optional<HubName> parse_hub_name(std::string_view text);
// As parse_hub_name, but the text is meant as a name. Throws Error(kUsage).
HubName hub_name_of(std::string_view text);

// Throws Error(kBadInput) unless it is a relative path that stays below its folder: parts of up to 255 bytes, none of them
// empty, "." or "..", no backslash, no control character.
void check_file_name(std::string_view name, std::string_view where);

// 40 hexadecimal digits.
bool is_commit(std::string_view text);

}  // namespace tsubu
