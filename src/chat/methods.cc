// Methods of strings and dictionaries.
#include <algorithm>
#include <span>

#include "base/error.h"
#include "chat/builtin_helpers.h"

namespace tsubu::chat {
namespace {

List split(Context& c, const std::string& text, const Value* separator, int64_t most) {
  List parts;
  if (separator && !separator->is_none()) {
    const std::string& s = text_of(*separator, "split");
    if (s.empty()) refuse_call("split: the separator is empty");
    size_t at = 0;
    for (size_t hit; (most < 0 || static_cast<int64_t>(parts.size()) < most) && (hit = text.find(s, at)) != std::string::npos;
         at = hit + s.size())
      parts.push_back(made(c, text.substr(at, hit - at)));
    parts.push_back(made(c, text.substr(at)));
    return parts;
  }
  size_t at = text.find_first_not_of(kSpaces);
  while (at != std::string::npos) {
    size_t end = text.find_first_of(kSpaces, at);
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(made(c, text.substr(at, text.find_last_not_of(kSpaces) + 1 - at)));
      break;
    }
    parts.push_back(made(c, text.substr(at, end == std::string::npos ? end : end - at)));
    at = end == std::string::npos ? end : text.find_first_not_of(kSpaces, end);
  }
  return parts;
}

List split_from_right(Context& c, const std::string& text, const Value& separator, int64_t most) {
  List parts;
  const std::string& s = text_of(separator, "rsplit");
  if (s.empty()) refuse_call("rsplit: the separator is empty");
  size_t end = text.size();
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t hit = end < s.size() ? std::string::npos : text.rfind(s, end - s.size());
    if (hit == std::string::npos) break;
    parts.push_back(made(c, text.substr(hit + s.size(), end - hit - s.size())));
    end = hit;
  }
  parts.push_back(made(c, text.substr(0, end)));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

bool starts_or_ends(const Arguments& a, bool starts) {
  const std::string_view what = starts ? "startswith" : "endswith";
  const std::string& text = text_of(a.positional[0], what);
  const Value& affix = needed(a, 1, "", what);
  const auto fits = [&](const Value& v) {
    const std::string& s = text_of(v, what);
    return starts ? text.starts_with(s) : text.ends_with(s);
  };
  return affix.is_list() ? std::any_of(affix.as_list().begin(), affix.as_list().end(), fits) : fits(affix);
}

// "{}" and "{0}" and "{name}" alone: no formats of numbers.
Value formatted(Context& c, const Arguments& a) {
  const std::string& text = a.positional[0].as_string();
  std::string out;
  size_t next = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '{' && text[i] != '}') {
      out += text[i];
      continue;
    }
    if (i + 1 < text.size() && text[i + 1] == text[i]) {
      out += text[i++];
      continue;
    }
    const size_t end = text.find('}', i);
    if (text[i] == '}' || end == std::string::npos) refuse_call("format: a single brace");
    const std::string name = text.substr(i + 1, end - i - 1);
    const bool is_number = !name.empty() && name.size() < 4 && std::all_of(name.begin(), name.end(), [](char x) { return x >= '0' && x <= '9'; });
    const Value* v = name.empty() ? a.find(next++, "") : is_number ? a.find(static_cast<size_t>(std::stoi(name)) + 1, "") : a.find(SIZE_MAX, name);
    if (!v) refuse_call(fmt::format("format: nothing is given for '{{{}}}'", name));
    const std::string piece = v->str();
    c.grow(piece.size());
    out += piece;
    i = end;
  }
  return made(c, std::move(out));
}

struct NamedMethod {
  std::string_view name;
  Builtin function;
};

const NamedMethod kStringMethods[] = {
    {"strip", [](Context& c, const Arguments& a) { return made(c, strip(a, true, true, "strip")); }},
    {"lstrip", [](Context& c, const Arguments& a) { return made(c, strip(a, true, false, "lstrip")); }},
    {"rstrip", [](Context& c, const Arguments& a) { return made(c, strip(a, false, true, "rstrip")); }},
    {"upper", [](Context& c, const Arguments& a) { return made(c, upper(a.positional[0].as_string())); }},
    {"lower", [](Context& c, const Arguments& a) { return made(c, lower(a.positional[0].as_string())); }},
    {"title", [](Context& c, const Arguments& a) { return made(c, titled(a.positional[0].as_string())); }},
    {"capitalize", [](Context& c, const Arguments& a) { return made(c, capitalized(a.positional[0].as_string())); }},
    {"startswith", [](Context&, const Arguments& a) { return Value(starts_or_ends(a, true)); }},
    {"endswith", [](Context&, const Arguments& a) { return Value(starts_or_ends(a, false)); }},
    {"split",
     [](Context& c, const Arguments& a) {
       return Value(split(c, a.positional[0].as_string(), a.find(1, "sep"), integer_of(a.find(2, "maxsplit"), -1, "split")));
     }},
    {"rsplit",
     [](Context& c, const Arguments& a) {
       return Value(split_from_right(c, a.positional[0].as_string(), needed(a, 1, "sep", "rsplit"),
                                     integer_of(a.find(2, "maxsplit"), -1, "rsplit")));
     }},
    {"splitlines",
     [](Context& c, const Arguments& a) {
       const std::string& text = a.positional[0].as_string();
       List lines = split(c, text, std::make_unique<Value>("\n").get(), -1);
       if (text.empty() || text.ends_with('\n')) lines.pop_back();
       return Value(lines);
     }},
    {"replace",
     [](Context& c, const Arguments& a) {
       return Value(replaced(c, a.positional[0].as_string(), text_of(needed(a, 1, "old", "replace"), "replace"),
                             text_of(needed(a, 2, "new", "replace"), "replace"), integer_of(a.find(3, "count"), -1, "replace")));
     }},
    {"find",
     [](Context&, const Arguments& a) {
       const std::string& text = a.positional[0].as_string();
       const size_t at = text.find(text_of(needed(a, 1, "sub", "find"), "find"));
       return Value(at == std::string::npos ? int64_t{-1} : static_cast<int64_t>(n_chars(std::string_view(text).substr(0, at))));
     }},
    {"rfind",
     [](Context&, const Arguments& a) {
       const std::string& text = a.positional[0].as_string();
       const size_t at = text.rfind(text_of(needed(a, 1, "sub", "rfind"), "rfind"));
       return Value(at == std::string::npos ? int64_t{-1} : static_cast<int64_t>(n_chars(std::string_view(text).substr(0, at))));
     }},
    {"count",
     [](Context& c, const Arguments& a) {
       const std::string& part = text_of(needed(a, 1, "sub", "count"), "count");
       if (part.empty()) return Value(static_cast<int64_t>(n_chars(a.positional[0].as_string()) + 1));
       return Value(static_cast<int64_t>(split(c, a.positional[0].as_string(), &needed(a, 1, "sub", "count"), -1).size() - 1));
     }},
    {"join",
     [](Context& c, const Arguments& a) {
       return joined(c, elements_of(c, needed(a, 1, "iterable", "join")), a.positional[0].as_string(), nullptr);
     }},
    {"format", formatted},
    {"removeprefix",
     [](Context& c, const Arguments& a) {
       const std::string &text = a.positional[0].as_string(), &part = text_of(needed(a, 1, "", "removeprefix"), "removeprefix");
       return made(c, text.starts_with(part) ? text.substr(part.size()) : text);
     }},
    {"removesuffix",
     [](Context& c, const Arguments& a) {
       const std::string &text = a.positional[0].as_string(), &part = text_of(needed(a, 1, "", "removesuffix"), "removesuffix");
       return made(c, text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text);
     }},
    {"isdigit",
     [](Context&, const Arguments& a) {
       const std::string& text = a.positional[0].as_string();
       return Value(!text.empty() && std::all_of(text.begin(), text.end(), [](char x) { return x >= '0' && x <= '9'; }));
     }},
    {"isalpha",
     [](Context&, const Arguments& a) {
       const std::string& text = a.positional[0].as_string();
       return Value(!text.empty() && std::all_of(text.begin(), text.end(), is_letter));
     }},
    {"isspace",
     [](Context&, const Arguments& a) {
       const std::string& text = a.positional[0].as_string();
       return Value(!text.empty() && text.find_first_not_of(kSpaces) == std::string::npos);
     }},
};

const NamedMethod kDictMethods[] = {
    {"items", [](Context& c, const Arguments& a) {
       c.step(a.positional[0].as_dict().size());
       return pair_list(a.positional[0].as_dict());
     }},
    {"keys", [](Context& c, const Arguments& a) { return Value(elements_of(c, a.positional[0])); }},
    {"values",
     [](Context& c, const Arguments& a) {
       List list;
       for (const auto& entry : a.positional[0].as_dict()) list.push_back(entry.second);
       c.step(list.size());
       return Value(list);
     }},
    {"get",
     [](Context&, const Arguments& a) {
       const Value& key = needed(a, 1, "key", "get");
       const Value* found = key.is_string() ? a.positional[0].find(key.as_string()) : nullptr;
       if (found) return *found;
       const Value* otherwise = a.find(2, "default");
       return otherwise ? *otherwise : Value();
     }},
};

}  // namespace

Value method_of(const Value& object, std::string_view name) {
  const std::span<const NamedMethod> list = object.is_string() ? std::span<const NamedMethod>(kStringMethods)
                                      : object.is_dict() ? std::span<const NamedMethod>(kDictMethods)
                                                         : std::span<const NamedMethod>();
  for (const NamedMethod& m : list) {
    if (m.name != name) continue;
    return Function([object, f = m.function](Context& c, const Arguments& a) {
      Arguments bound = a;
      bound.positional.insert(bound.positional.begin(), object);
      return f(c, bound);
    });
  }
  return Value::undefined(std::string(name));
}

}  // namespace tsubu::chat
