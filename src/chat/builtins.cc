#include "chat/builtins.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "chat/builtin_helpers.h"

namespace tsubu::chat {
namespace {

struct Named {
  std::string_view name;
  Builtin function;
};

const Entries& entries_of(const Value& v, std::string_view what) {
  if (!v.is_dict()) refuse_call(fmt::format("{}: expected a dictionary, found {}", what, v.type_name()));
  return v.as_dict();
}

// ---- filters --------------------------------------------------------------------------------------------------------

Value length(Context& c, const Arguments& a) {
  const Value& v = a.positional[0];
  if (v.is_string()) return static_cast<int64_t>(n_chars(v.as_string()));
  return static_cast<int64_t>(elements_of(c, v).size());
}

Value default_value(Context&, const Arguments& a) {
  const Value* otherwise = a.find(1, "default_value");
  const Value* falsy_too = a.find(2, "boolean");
  const Value& v = a.positional[0];
  if (!v.is_undefined() && !(falsy_too && falsy_too->truth() && !v.truth())) return v;
  return otherwise ? *otherwise : Value("");
}

Value end_of(Context& c, const Arguments& a, bool first) {
  const List list = elements_of(c, a.positional[0]);
  return list.empty() ? Value::undefined(first ? "first" : "last") : first ? list.front() : list.back();
}

// Elements of a list that a test holds for (or not), of themselves or of an attribute.
Value selected(Context& c, const Arguments& a, bool by_attribute, bool wanted) {
  List kept;
  const size_t at = by_attribute ? 2 : 1;
  const Value* attribute = by_attribute ? &needed(a, 1, "", "selectattr") : nullptr;
  const Test test = a.positional.size() > at ? find_test(text_of(a.positional[at], "select")) : nullptr;
  if (a.positional.size() > at && !test) refuse_call(fmt::format("no test named '{}'", a.positional[at].as_string()));
  if (!a.positional[0].truth()) return kept;  // None too, as Jinja has it
  for (const Value& v : elements_of(c, a.positional[0])) {
    Arguments call;
    call.positional.push_back(attribute ? item_of(v, *attribute) : v);
    for (size_t i = at + 1; i < a.positional.size(); ++i) call.positional.push_back(a.positional[i]);
    if ((test ? test(c, call) : call.positional[0].truth()) == wanted) kept.push_back(v);
  }
  return kept;
}

Value mapped(Context& c, const Arguments& a) {
  List out;
  const Value* attribute = a.find(SIZE_MAX, "attribute");
  const Builtin filter = attribute ? nullptr : find_filter(text_of(needed(a, 1, "", "map"), "map"));
  if (!attribute && !filter) refuse_call(fmt::format("no filter named '{}'", a.positional[1].as_string()));
  for (const Value& v : elements_of(c, a.positional[0])) {
    if (attribute) {
      Value item = item_of(v, *attribute);
      const Value* otherwise = a.find(SIZE_MAX, "default");
      out.push_back(item.is_undefined() && otherwise ? *otherwise : item);
      continue;
    }
    Arguments call;
    call.positional.push_back(v);
    for (size_t i = 2; i < a.positional.size(); ++i) call.positional.push_back(a.positional[i]);
    out.push_back(filter(c, call));
  }
  return out;
}

Value sorted(Context& c, const Arguments& a) {
  List list = elements_of(c, a.positional[0]);
  const Value *reverse = a.find(1, "reverse"), *case_sensitive = a.find(2, "case_sensitive"), *attribute = a.find(3, "attribute");
  c.step(list.size() * 8);
  const auto key = [&](const Value& v) {
    Value k = attribute && !attribute->is_none() ? item_of(v, *attribute) : v;
    return k.is_string() && !(case_sensitive && case_sensitive->truth()) ? Value(lower(k.as_string())) : k;
  };
  std::stable_sort(list.begin(), list.end(), [&](const Value& x, const Value& y) {
    const auto order = compare(key(x), key(y));
    if (!order) refuse_call(fmt::format("sort: no order between {} and {}", x.type_name(), y.type_name()));
    return reverse && reverse->truth() ? *order > 0 : *order < 0;
  });
  return list;
}

Value to_json_text(Context& c, const Arguments& a) {
  const int64_t indent = integer_of(a.find(SIZE_MAX, "indent"), -1, "tojson");
  if (indent > 16) refuse_call("tojson: an indent of more than 16");
  const Value *sort = a.find(SIZE_MAX, "sort_keys"), *ascii = a.find(SIZE_MAX, "ensure_ascii");
  return made(c, a.positional[0].json({static_cast<int>(indent), sort && sort->truth(), ascii && ascii->truth()}));
}

Value to_int(Context&, const Arguments& a) {
  const Value& v = a.positional[0];
  const int64_t otherwise = integer_of(a.find(1, "default"), 0, "int");
  if (v.is_float()) return std::abs(v.as_double()) < 9e18 ? Value(static_cast<int64_t>(v.as_double())) : Value(otherwise);
  if (v.is_number()) return v.as_int();
  if (!v.is_string()) return otherwise;
  const std::string text = stripped(v.as_string(), kSpaces, true, true);
  double d = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), d);
  return error == std::errc() && end == text.data() + text.size() && std::abs(d) < 9e18 ? Value(static_cast<int64_t>(d)) : Value(otherwise);
}

Value to_float(Context&, const Arguments& a) {
  const Value& v = a.positional[0];
  if (v.is_number()) return v.as_double();
  double d = 0;
  if (v.is_string()) {
    const std::string text = stripped(v.as_string(), kSpaces, true, true);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), d);
    if (error == std::errc() && end == text.data() + text.size()) return d;
  }
  const Value* otherwise = a.find(1, "default");
  return otherwise ? *otherwise : Value(0.0);
}

Value rounded(Context&, const Arguments& a) {
  if (!a.positional[0].is_number()) refuse_call("round: expected a number");
  const int64_t digits = integer_of(a.find(1, "precision"), 0, "round");
  const double scale = std::pow(10.0, static_cast<double>(digits));
  return std::nearbyint(a.positional[0].as_double() * scale) / scale;
}

Value indented(Context& c, const Arguments& a) {
  const std::string& text = text_of(a.positional[0], "indent");
  const Value *width = a.find(1, "width"), *first = a.find(2, "first"), *blank = a.find(3, "blank");
  const std::string pad = width && width->is_string() ? width->as_string() : std::string(static_cast<size_t>(std::clamp<int64_t>(integer_of(width, 4, "indent"), 0, 64)), ' ');
  std::string out;
  size_t at = 0;
  for (bool is_first = true; at <= text.size(); is_first = false) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const bool pads = is_first ? first && first->truth() : end > at || (blank && blank->truth());
    if (!is_first) out += '\n';
    if (pads) out += pad;
    c.grow(pad.size() + end - at);
    out.append(text, at, end - at);
    at = end + 1;
  }
  return out;
}

Value extreme(Context& c, const Arguments& a, int sign) {
  const List list = elements_of(c, a.positional[0]);
  if (list.empty()) return Value::undefined("min or max of nothing");
  size_t best = 0;
  for (size_t i = 1; i < list.size(); ++i) {
    const auto order = compare(list[i], list[best]);
    if (!order) refuse_call("min, max: values without an order");
    if (*order * sign > 0) best = i;
  }
  return list[best];
}

Value unique(Context& c, const Arguments& a) {
  List out;
  for (const Value& v : elements_of(c, a.positional[0])) {
    c.step(out.size());
    if (std::none_of(out.begin(), out.end(), [&](const Value& o) { return equal(o, v); })) out.push_back(v);
  }
  return out;
}

Value escaped(Context& c, const Arguments& a) {
  std::string out;
  for (const char x : a.positional[0].str()) {
    switch (x) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out += x;
    }
  }
  return made(c, std::move(out));
}

const Named kFilters[] = {
    {"trim", [](Context& c, const Arguments& a) {
       Arguments text = a;
       text.positional[0] = Value(a.positional[0].str());
       return made(c, strip(text, true, true, "trim"));
     }},
    {"tojson", to_json_text},
    {"length", length},
    {"count", length},
    {"default", default_value},
    {"d", default_value},
    {"join",
     [](Context& c, const Arguments& a) {
       const Value *separator = a.find(1, "d"), *attribute = a.find(2, "attribute");
       return joined(c, elements_of(c, a.positional[0]), separator ? separator->str() : "", attribute);
     }},
    {"upper", [](Context& c, const Arguments& a) { return made(c, upper(a.positional[0].str())); }},
    {"lower", [](Context& c, const Arguments& a) { return made(c, lower(a.positional[0].str())); }},
    {"title", [](Context& c, const Arguments& a) { return made(c, titled(a.positional[0].str())); }},
    {"capitalize", [](Context& c, const Arguments& a) { return made(c, capitalized(a.positional[0].str())); }},
    {"replace",
     [](Context& c, const Arguments& a) {
       return Value(replaced(c, a.positional[0].str(), needed(a, 1, "old", "replace").str(), needed(a, 2, "new", "replace").str(),
                             integer_of(a.find(3, "count"), -1, "replace")));
     }},
    {"first", [](Context& c, const Arguments& a) { return end_of(c, a, true); }},
    {"last", [](Context& c, const Arguments& a) { return end_of(c, a, false); }},
    {"list", [](Context& c, const Arguments& a) { return Value(elements_of(c, a.positional[0])); }},
    {"string", [](Context& c, const Arguments& a) { return made(c, a.positional[0].str()); }},
    {"int", to_int},
    {"float", to_float},
    {"abs",
     [](Context&, const Arguments& a) {
       const Value& v = a.positional[0];
       if (!v.is_number()) refuse_call("abs: expected a number");
       return v.is_float() ? Value(std::abs(v.as_double())) : Value(v.as_int() < 0 && v.as_int() != INT64_MIN ? -v.as_int() : v.as_int());
     }},
    {"round", rounded},
    {"items", [](Context& c, const Arguments& a) {
       if (a.positional[0].is_undefined()) return Value(List{});
       c.step(entries_of(a.positional[0], "items").size());
       return pair_list(a.positional[0].as_dict());
     }},
    {"dictsort",
     [](Context& c, const Arguments& a) {
       Entries entries = entries_of(a.positional[0], "dictsort");
       c.step(entries.size() * 8);
       std::stable_sort(entries.begin(), entries.end(), [](const auto& x, const auto& y) { return lower(x.first) < lower(y.first); });
       return pair_list(entries);
     }},
    {"map", mapped},
    {"select", [](Context& c, const Arguments& a) { return selected(c, a, false, true); }},
    {"reject", [](Context& c, const Arguments& a) { return selected(c, a, false, false); }},
    {"selectattr", [](Context& c, const Arguments& a) { return selected(c, a, true, true); }},
    {"rejectattr", [](Context& c, const Arguments& a) { return selected(c, a, true, false); }},
    {"sort", sorted},
    {"unique", unique},
    {"reverse",
     [](Context& c, const Arguments& a) {
       List list = elements_of(c, a.positional[0]);
       std::reverse(list.begin(), list.end());
       return a.positional[0].is_string() ? joined(c, list, "", nullptr) : Value(list);
     }},
    {"min", [](Context& c, const Arguments& a) { return extreme(c, a, -1); }},
    {"max", [](Context& c, const Arguments& a) { return extreme(c, a, 1); }},
    {"sum",
     [](Context& c, const Arguments& a) {
       double sum = 0;
       bool whole = true;
       for (const Value& v : elements_of(c, a.positional[0])) {
         if (!v.is_number()) refuse_call("sum: expected numbers");
         whole &= !v.is_float();
         sum += v.as_double();
       }
       return whole ? Value(static_cast<int64_t>(sum)) : Value(sum);
     }},
    {"indent", indented},
    {"escape", escaped},
    {"e", escaped},
    {"safe", [](Context&, const Arguments& a) { return a.positional[0]; }},
};

// ---- tests ----------------------------------------------------------------------------------------------------------

const Value& other(const Arguments& a) { return needed(a, 1, "other", "a test"); }
bool ordered(const Arguments& a, bool less, bool or_equal) {
  const auto order = compare(a.positional[0], other(a));
  if (!order) refuse_call("a test of order between values without one");
  return (or_equal && *order == 0) || (less ? *order < 0 : *order > 0);
}
int64_t whole(const Arguments& a, size_t i) { return integer_of(&needed(a, i, "num", "a test"), 0, "a test"); }

struct NamedTest {
  std::string_view name;
  Test function;
};

const NamedTest kTests[] = {
    {"defined", [](Context&, const Arguments& a) { return !a.positional[0].is_undefined(); }},
    {"undefined", [](Context&, const Arguments& a) { return a.positional[0].is_undefined(); }},
    {"none", [](Context&, const Arguments& a) { return a.positional[0].is_none(); }},
    {"string", [](Context&, const Arguments& a) { return a.positional[0].is_string(); }},
    {"mapping", [](Context&, const Arguments& a) { return a.positional[0].is_dict(); }},
    {"iterable",
     [](Context&, const Arguments& a) {
       const Value& v = a.positional[0];
       return v.is_list() || v.is_dict() || v.is_string() || v.is_undefined();
     }},
    {"sequence",
     [](Context&, const Arguments& a) {
       const Value& v = a.positional[0];
       return v.is_list() || v.is_dict() || v.is_string() || v.is_undefined();
     }},
    {"number", [](Context&, const Arguments& a) { return a.positional[0].is_number(); }},
    {"integer", [](Context&, const Arguments& a) { return a.positional[0].is_int(); }},
    {"float", [](Context&, const Arguments& a) { return a.positional[0].is_float(); }},
    {"boolean", [](Context&, const Arguments& a) { return a.positional[0].is_bool(); }},
    {"true", [](Context&, const Arguments& a) { return a.positional[0].is_bool() && a.positional[0].as_bool(); }},
    {"false", [](Context&, const Arguments& a) { return a.positional[0].is_bool() && !a.positional[0].as_bool(); }},
    {"callable", [](Context&, const Arguments& a) { return a.positional[0].is_function(); }},
    {"equalto", [](Context&, const Arguments& a) { return equal(a.positional[0], other(a)); }},
    {"eq", [](Context&, const Arguments& a) { return equal(a.positional[0], other(a)); }},
    {"ne", [](Context&, const Arguments& a) { return !equal(a.positional[0], other(a)); }},
    {"sameas", [](Context&, const Arguments& a) { return a.positional[0].type_name() == other(a).type_name() && equal(a.positional[0], other(a)); }},
    {"lt", [](Context&, const Arguments& a) { return ordered(a, true, false); }},
    {"le", [](Context&, const Arguments& a) { return ordered(a, true, true); }},
    {"gt", [](Context&, const Arguments& a) { return ordered(a, false, false); }},
    {"ge", [](Context&, const Arguments& a) { return ordered(a, false, true); }},
    {"lessthan", [](Context&, const Arguments& a) { return ordered(a, true, false); }},
    {"greaterthan", [](Context&, const Arguments& a) { return ordered(a, false, false); }},
    {"in", [](Context& c, const Arguments& a) { return contains(c, other(a), a.positional[0]); }},
    {"odd", [](Context&, const Arguments& a) { return whole(a, 0) % 2 != 0; }},
    {"even", [](Context&, const Arguments& a) { return whole(a, 0) % 2 == 0; }},
    {"divisibleby",
     [](Context&, const Arguments& a) {
       const int64_t n = whole(a, 1);
       if (n == 0) refuse_call("divisibleby: division by zero");
       return n == -1 || whole(a, 0) % n == 0;
     }},
    {"lower", [](Context&, const Arguments& a) { return a.positional[0].str() == lower(a.positional[0].str()); }},
    {"upper", [](Context&, const Arguments& a) { return a.positional[0].str() == upper(a.positional[0].str()); }},
};

// ---- globals --------------------------------------------------------------------------------------------------------

Value range(Context& c, const Arguments& a) {
  const int64_t first = integer_of(a.find(0, ""), 0, "range"), second = integer_of(a.find(1, ""), 0, "range");
  const int64_t begin = a.positional.size() > 1 ? first : 0, end = a.positional.size() > 1 ? second : first;
  const int64_t step = integer_of(a.find(2, ""), 1, "range");
  if (step == 0) refuse_call("range: a step of 0");
  if (std::abs(static_cast<double>(begin)) > 1e9 || std::abs(static_cast<double>(end)) > 1e9 || std::abs(static_cast<double>(step)) > 1e9)
    refuse_call("range: numbers beyond 10^9");
  List list;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    c.step();
    list.emplace_back(i);
  }
  return list;
}

struct Global {
  std::string_view name;
  Value function;
};

}  // namespace

Builtin find_filter(std::string_view name) {
  for (const Named& f : kFilters)
    if (f.name == name) return f.function;
  return nullptr;
}

Test find_test(std::string_view name) {
  for (const NamedTest& t : kTests)
    if (t.name == name) return t.function;
  return nullptr;
}

const Value* find_global(std::string_view name) {
  static const Global kGlobals[] = {
      {"raise_exception", Function([](Context&, const Arguments& a) -> Value {
         const Value* message = a.find(0, "message");
         fail(ExitCode::kBadInput, "chat template: {}", message ? message->str() : "it refuses these messages");
       })},
      {"strftime_now", Function([](Context& c, const Arguments& a) {
         return Value(c.strftime_now ? c.strftime_now(text_of(needed(a, 0, "format", "strftime_now"), "strftime_now")) : "");
       })},
      {"namespace", Function([](Context&, const Arguments& a) {
         Entries entries = a.positional.empty() ? Entries{} : entries_of(a.positional[0], "namespace");
         entries.insert(entries.end(), a.named.begin(), a.named.end());
         return Value::new_namespace(std::move(entries));
       })},
      {"dict", Function([](Context&, const Arguments& a) {
         Entries entries = a.positional.empty() ? Entries{} : entries_of(a.positional[0], "dict");
         entries.insert(entries.end(), a.named.begin(), a.named.end());
         return Value(entries);
       })},
      {"range", Function(range)},
  };
  for (const Global& g : kGlobals)
    if (g.name == name) return &g.function;
  return nullptr;
}

List elements_of(Context& c, const Value& v) {
  List list;
  if (v.is_list()) {
    list = v.as_list();
  } else if (v.is_dict()) {
    for (const auto& entry : v.as_dict()) list.emplace_back(entry.first);
  } else if (v.is_string()) {
    for (std::string_view character : chars_of(v.as_string())) list.emplace_back(character);
  } else if (!v.is_undefined()) {
    refuse_call(fmt::format("expected something with elements, found {}", v.type_name()));
  }
  c.step(list.size());
  c.grow(list.size() * sizeof(Value));
  return list;
}

Value item_of(const Value& object, const Value& key) {
  if (object.is_undefined())
    refuse_call(fmt::format("'{}' is not there, and something of it is asked for", object.undefined_name()));
  if (object.is_none()) return Value::undefined(key.str());
  if ((object.is_dict() || object.is_namespace()) && key.is_string()) {
    const Value* found = object.find(key.as_string());
    return found ? *found : Value::undefined(key.as_string());
  }
  if ((object.is_list() || object.is_string()) && key.is_int()) {
    const std::vector<std::string_view> chars = object.is_string() ? chars_of(object.as_string()) : std::vector<std::string_view>();
    const auto n = static_cast<int64_t>(object.is_string() ? chars.size() : object.as_list().size());
    const int64_t i = key.as_int() < 0 ? key.as_int() + n : key.as_int();
    if (i < 0 || i >= n) return Value::undefined(fmt::format("element {}", key.as_int()));
    return object.is_string() ? Value(chars[static_cast<size_t>(i)]) : object.as_list()[static_cast<size_t>(i)];
  }
  return Value::undefined(key.str());
}

bool contains(Context& c, const Value& container, const Value& value) {
  if (container.is_string()) return container.as_string().find(text_of(value, "in")) != std::string::npos;
  if (container.is_dict()) return value.is_string() && container.find(value.as_string()) != nullptr;
  const List list = elements_of(c, container);
  return std::any_of(list.begin(), list.end(), [&](const Value& v) { return equal(v, value); });
}

}  // namespace tsubu::chat
