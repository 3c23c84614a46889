#include "chat/builtin_helpers.h"

#include <algorithm>

#include "base/error.h"

namespace tsubu::chat {
namespace {

char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

bool is_letter(char c) { return to_upper(c) >= 'A' && to_upper(c) <= 'Z'; }

void refuse_call(const std::string& what) { fail(ExitCode::kBadInput, "chat template: {}", what); }

const std::string& text_of(const Value& v, std::string_view what) {
  if (!v.is_string()) refuse_call(fmt::format("{}: expected a string, found {}", what, v.type_name()));
  return v.as_string();
}

int64_t integer_of(const Value* v, int64_t otherwise, std::string_view what) {
  if (!v || v->is_none()) return otherwise;
  if (!v->is_int() && !v->is_bool()) refuse_call(fmt::format("{}: expected an integer, found {}", what, v->type_name()));
  return v->as_int();
}

const Value& needed(const Arguments& a, size_t i, std::string_view name, std::string_view what) {
  const Value* v = a.find(i, name);
  if (!v) refuse_call(fmt::format("{}: argument {} is missing", what, i));
  return *v;
}

Value made(Context& c, std::string text) {
  c.grow(text.size());
  return text;
}

std::string stripped(std::string_view text, std::string_view set, bool left, bool right) {
  const std::vector<std::string_view> out = chars_of(set);
  const auto is_out = [&](std::string_view character) { return std::find(out.begin(), out.end(), character) != out.end(); };
  const std::vector<std::string_view> chars = chars_of(text);
  size_t begin = 0, end = chars.size();
  while (left && begin < end && is_out(chars[begin])) ++begin;
  while (right && end > begin && is_out(chars[end - 1])) --end;
  if (begin == end) return "";
  return std::string(chars[begin].data(), static_cast<size_t>(chars[end - 1].data() + chars[end - 1].size() - chars[begin].data()));
}

std::string strip(const Arguments& a, bool left, bool right, std::string_view what) {
  const Value* set = a.find(1, "chars");
  return stripped(text_of(needed(a, 0, "", what), what), set && !set->is_none() ? text_of(*set, what) : kSpaces, left,
                  right);
}

std::string upper(std::string s) {
  std::transform(s.begin(), s.end(), s.begin(), to_upper);
  return s;
}
std::string lower(std::string s) {
  std::transform(s.begin(), s.end(), s.begin(), to_lower);
  return s;
}
std::string capitalized(std::string s) {
  s = lower(s);
  if (!s.empty()) s[0] = to_upper(s[0]);
  return s;
}
std::string titled(std::string s) {
  bool inside = false;
  for (char& c : s) {
    c = inside ? to_lower(c) : to_upper(c);
    inside = is_letter(c) || static_cast<unsigned char>(c) >= 0x80 || c == '\'';
  }
  return s;
}

std::string replaced(Context& c, const std::string& text, const std::string& from, const std::string& to, int64_t most) {
  std::string out;
  size_t at = 0;
  for (int64_t n = 0; n != most; ++n) {
    const size_t hit = text.find(from, at);
    if (hit == std::string::npos || (from.empty() && hit >= text.size())) break;
    c.step();
    out.append(text, at, hit - at);
    out += to;
    c.grow(to.size() + 1);
    if (from.empty()) out += text[hit];
    at = hit + std::max<size_t>(1, from.size());
  }
  return out + text.substr(std::min(at, text.size()));
}

Value joined(Context& c, const List& list, const std::string& separator, const Value* attribute) {
  std::string out;
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out += separator;
    const std::string piece = (attribute ? item_of(list[i], *attribute) : list[i]).str();
    c.step();
    c.grow(piece.size() + separator.size());
    out += piece;
  }
  return out;
}

Value pair_list(const Entries& entries) {
  List list;
  for (const auto& [key, value] : entries) list.push_back(List{Value(key), value});
  return list;
}

}  // namespace tsubu::chat
