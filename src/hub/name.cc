#include "hub/name.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"

namespace tsubu {
namespace {

constexpr size_t kMaxId = 96;  // of the hub itself
constexpr std::string_view kScheme = "hf://";

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
}

bool is_id_part(std::string_view part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), is_word) && part.front() != '-' && part.front() != '.' &&
         part.back() != '-' && part.back() != '.' && part.find("--") == part.npos && part.find("..") == part.npos;
}

bool is_revision(std::string_view text) {
  return !text.empty() && text.size() <= 255 && text.front() != '/' && text.back() != '/' && text.front() != '-' &&
         text.find("..") == text.npos && text.find("//") == text.npos && text.find("/.") == text.npos && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_word(c) || c == '/' || c == '+'; });
}

std::optional<HubName> split(std::string_view text) {
  HubName name;
  const size_t id_end = std::min(text.find_first_of("@:"), text.size());
  name.id = text.substr(0, id_end);
  const size_t slash = name.id.find('/');
  if (slash == name.id.npos || name.id.size() > kMaxId) return {};
  if (!is_id_part(name.id.substr(0, slash)) || !is_id_part(name.id.substr(slash + 1))) return {};
  std::string_view rest = text.substr(id_end);
  if (rest.starts_with('@')) {
    const size_t end = std::min(rest.find(':'), rest.size());
    name.revision = rest.substr(1, end - 1);
    if (!is_revision(name.revision)) return {};
    rest.remove_prefix(end);
  }
  if (rest.starts_with(':')) {
    name.choice = rest.substr(1);
    if (name.choice.empty()) return {};
  }
  return name;
}

}  // namespace

std::string HubName::text() const {
  return id + (revision == "main" ? "" : "@" + revision) + (choice.empty() ? "" : ":" + choice);
}

std::optional<HubName> parse_hub_name(std::string_view text) {
  if (text.starts_with(kScheme)) return hub_name_of(text);
  std::error_code error;
  if (std::filesystem::exists(text, error)) return {};
  std::optional<HubName> name = split(text);
  if (!name) return {};
  // A path with a slip in it must not become a request to a server.
  if (std::filesystem::is_directory(name->id.substr(0, name->id.find('/')), error)) return {};
  for (std::string_view ending : {".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".txt", ".dat"})
    if (name->id.ends_with(ending)) return {};
  return name;
}

HubName hub_name_of(std::string_view text) {
  std::string_view rest = text;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  const std::optional<HubName> name = split(rest);
  if (!name)
    fail(ExitCode::kUsage,
         "'{}': expected a model of the hub, org/name[@revision][:file or type]: letters, digits, '-', '_' and '.'",
         text.substr(0, 256));
  return *name;
}

void check_file_name(std::string_view name, std::string_view where) {
  const auto bad = [&](std::string_view why) {
    std::string shown(name.substr(0, 200));
    for (char& c : shown)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    fail(ExitCode::kBadInput, "{}: file name '{}' {}: refused, because it could lead out of its folder", where, shown, why);
  };
  if (name.empty() || name.size() > 1024) bad("is empty or longer than 1024 bytes");
  for (char c : name)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') bad("has a backslash or control characters");
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") bad("has an empty part, '.' or '..'");
    if (part.size() > 255) bad("has a part longer than 255 bytes");
    begin = end + 1;
  }
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace tsubu
