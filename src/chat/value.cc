#include "chat/value.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/utf8.h"

namespace tsubu::chat {
namespace {

// Far more than any published template needs for a long conversation; seconds of work at most.
constexpr size_t kMaxSteps = 4'000'000, kMaxBytes = size_t{128} << 20, kMaxDepth = 500;
constexpr int kMaxNesting = 64;

std::string float_text(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", x);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

void write_quoted(std::string& out, const std::string& s) {
  const char quote = s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  out += quote;
  for (const char c : s) {
    if (c == quote || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  out += quote;
}

// Lists may hold one list many times: what is written of them can be large though they are small.
void check_size(const std::string& out, int depth) {
  if (depth > kMaxNesting) fail(ExitCode::kBadInput, "chat template: a value nested deeper than {} levels", kMaxNesting);
  if (out.size() > kMaxBytes) fail(ExitCode::kBadInput, "chat template: a value of more than {} bytes as text", kMaxBytes);
}

bool equal_within(const Value& a, const Value& b, size_t& budget) {
  if (budget-- == 0) fail(ExitCode::kBadInput, "chat template: values too large to compare");
  if (a.is_number() && b.is_number())
    return a.is_float() || b.is_float() ? a.as_double() == b.as_double() : a.as_int() == b.as_int();
  if (a.is_string() && b.is_string()) return a.as_string() == b.as_string();
  if (a.is_none() || a.is_undefined()) return a.type_name() == b.type_name();
  if (a.is_list() && b.is_list())
    return std::equal(a.as_list().begin(), a.as_list().end(), b.as_list().begin(), b.as_list().end(),
                      [&](const Value& x, const Value& y) { return equal_within(x, y, budget); });
  if (!a.is_dict() || !b.is_dict() || a.as_dict().size() != b.as_dict().size()) return false;
  for (const auto& [key, value] : a.as_dict()) {
    const Value* other = b.find(key);
    if (!other || !equal_within(value, *other, budget)) return false;
  }
  return true;
}

}  // namespace

const Value* Arguments::find(size_t i, std::string_view name) const {
  if (i < positional.size()) return &positional[i];
  for (const auto& [key, value] : named)
    if (key == name) return &value;
  return nullptr;
}

Value Value::from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_unsigned: {
      const auto u = json.get<uint64_t>();
      return u > INT64_MAX ? Value(static_cast<double>(u)) : Value(static_cast<int64_t>(u));
    }
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return json.get<std::string>();
    case Json::value_t::array: {
      List list;
      for (const Json& element : json) list.push_back(from_json(element));
      return list;
    }
    case Json::value_t::object: {
      Entries entries;
      for (const auto& [key, element] : json.items()) entries.emplace_back(key, from_json(element));
      return entries;
    }
    default:
      return {};
  }
}

bool Value::truth() const {
  if (is_bool()) return as_bool();
  if (is_number()) return as_double() != 0;
  if (is_string()) return !as_string().empty();
  if (is_list()) return !as_list().empty();
  if (is_dict()) return !as_dict().empty();
  return is_namespace() || is_function();
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "None";
  if (is_bool()) return "boolean";
  if (is_int()) return "integer";
  if (is_float()) return "float";
  if (is_string()) return "string";
  if (is_list()) return "list";
  if (is_dict()) return "dictionary";
  return is_namespace() ? "namespace" : "function";
}

std::string Value::str() const {
  if (is_string()) return as_string();
  if (is_undefined()) return "";
  return repr();
}

std::string Value::repr() const {
  std::string out;
  write_repr(out, 0);
  return out;
}

void Value::write_repr(std::string& out, int depth) const {
  check_size(out, depth);
  if (is_none()) {
    out += "None";
  } else if (is_bool()) {
    out += as_bool() ? "True" : "False";
  } else if (is_int()) {
    out += std::to_string(as_int());
  } else if (is_float()) {
    out += float_text(as_double());
  } else if (is_string()) {
    write_quoted(out, as_string());
  } else if (is_list()) {
    out += '[';
    for (size_t i = 0; i < as_list().size(); ++i) {
      if (i > 0) out += ", ";
      as_list()[i].write_repr(out, depth + 1);
    }
    out += ']';
  } else if (is_dict()) {
    out += '{';
    for (size_t i = 0; i < as_dict().size(); ++i) {
      if (i > 0) out += ", ";
      write_quoted(out, as_dict()[i].first);
      out += ": ";
      as_dict()[i].second.write_repr(out, depth + 1);
    }
    out += '}';
  } else if (is_namespace()) {
    out += "<Namespace>";
  } else if (is_function()) {
    out += "<function>";
  } else {
    out += "Undefined";
  }
}

std::string Value::json(const JsonStyle& style) const {
  std::string out;
  write_json(out, style, 0);
  return out;
}

void Value::write_json(std::string& out, const JsonStyle& style, int depth) const {
  const int indent = style.indent;
  check_size(out, depth);
  const auto line = [&](int level) {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent) * static_cast<size_t>(level), ' ');
  };
  const char* separator = indent < 0 ? ", " : ",";
  if (is_none()) {
    out += "null";
  } else if (is_bool()) {
    out += as_bool() ? "true" : "false";
  } else if (is_int()) {
    out += std::to_string(as_int());
  } else if (is_float()) {
    const double x = as_double();
    out += std::isnan(x) ? "NaN" : std::isinf(x) ? (x < 0 ? "-Infinity" : "Infinity") : float_text(x);
  } else if (is_string()) {
    out += Json(as_string()).dump(-1, ' ', style.ensure_ascii, Json::error_handler_t::replace);
  } else if (is_list()) {
    out += '[';
    for (size_t i = 0; i < as_list().size(); ++i) {
      if (i > 0) out += separator;
      line(depth + 1);
      as_list()[i].write_json(out, style, depth + 1);
    }
    if (!as_list().empty()) line(depth);
    out += ']';
  } else if (is_dict()) {
    Entries entries = as_dict();
    if (style.sort_keys)
      std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    out += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out += separator;
      line(depth + 1);
      out += Json(entries[i].first).dump(-1, ' ', style.ensure_ascii, Json::error_handler_t::replace) + ": ";
      entries[i].second.write_json(out, style, depth + 1);
    }
    if (!entries.empty()) line(depth);
    out += '}';
  } else {
    fail(ExitCode::kBadInput, "chat template: tojson of {}: expected data", type_name());
  }
}

const Value* Value::find(std::string_view key) const {
  const Entries& entries = is_namespace() ? as_namespace().entries : as_dict();
  for (const auto& [name, value] : entries)
    if (name == key) return &value;
  return nullptr;
}

bool equal(const Value& a, const Value& b) {
  size_t budget = kMaxSteps;
  return equal_within(a, b, budget);
}

std::optional<int> compare(const Value& a, const Value& b) {
  const auto sign = [](auto x, auto y) { return x < y ? -1 : x > y ? 1 : 0; };
  if (a.is_number() && b.is_number())
    return a.is_float() || b.is_float() ? sign(a.as_double(), b.as_double()) : sign(a.as_int(), b.as_int());
  if (a.is_string() && b.is_string()) return sign(a.as_string().compare(b.as_string()), 0);
  if (!a.is_list() || !b.is_list()) return std::nullopt;
  for (size_t i = 0; i < std::min(a.as_list().size(), b.as_list().size()); ++i)
    if (!equal(a.as_list()[i], b.as_list()[i])) return compare(a.as_list()[i], b.as_list()[i]);
  return sign(a.as_list().size(), b.as_list().size());
}

size_t n_chars(std::string_view text) {
  size_t n = 0;
  for (size_t at = 0; at < text.size(); ++n) at += std::max<size_t>(1, utf8_char_length(text, at));
  return n;
}

std::vector<std::string_view> chars_of(std::string_view text) {
  std::vector<std::string_view> chars;
  for (size_t at = 0; at < text.size();) {
    const size_t n = std::max<size_t>(1, utf8_char_length(text, at));
    chars.push_back(text.substr(at, n));
    at += n;
  }
  return chars;
}

void Context::step(size_t n) {
  steps_ += n;
  if (steps_ > kMaxSteps) fail(ExitCode::kBadInput, "chat template: more than {} steps: it does not come to an end", kMaxSteps);
}

void Context::grow(size_t n_bytes) {
  bytes_ += n_bytes;
  if (bytes_ > kMaxBytes) fail(ExitCode::kBadInput, "chat template: more than {} bytes made while rendering", kMaxBytes);
}

Context::Depth::Depth(Context& c) : context(c) {
  if (context.depth_ >= kMaxDepth) fail(ExitCode::kBadInput, "chat template: nested deeper than {} levels", kMaxDepth);
  ++context.depth_;
}

}  // namespace tsubu::chat
