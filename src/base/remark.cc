#include "base/remark.h"

namespace tsubu {

std::string fill(std::string_view pattern, std::span<const std::string> args) {
  std::string out;
  for (size_t at = 0; at < pattern.size(); ++at) {
    const bool hole = pattern[at] == '{' && at + 2 < pattern.size() && pattern[at + 2] == '}' && pattern[at + 1] >= '0' &&
                      pattern[at + 1] <= '9';
    const auto index = hole ? static_cast<size_t>(pattern[at + 1] - '0') : args.size();
    if (index < args.size()) {
      out += args[index];
      at += 2;
    } else {
      out += pattern[at];
    }
  }
  return out;
}

std::string joined(std::span<const Remark> remarks, std::string_view between) {
  std::string out;
  for (const Remark& s : remarks) {
    if (!out.empty()) out += between;
    if (!s.about.empty()) out += s.about + ": ";
    out += s.text;
  }
  return out;
}

Json to_json(const Remark& remark) {
  Json json;
  if (!remark.about.empty()) json["about"] = remark.about;
  json["id"] = remark.id;
  json["args"] = remark.args;
  json["text"] = remark.text;
  return json;
}

Json to_json(std::span<const Remark> remarks) {
  Json list = Json::array();
  for (const Remark& s : remarks) list.push_back(to_json(s));
  return list;
}

}  // namespace tsubu
