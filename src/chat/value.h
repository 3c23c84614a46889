// The values of a template: what Jinja2 sees of Python's objects. Strings are UTF-8; lengths, indices and slices of
// strings count characters. Lists and dictionaries are shared and never change once made; only a namespace does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"

namespace tsubu::chat {

class Value;
class Context;  // of one rendering: its limits
using List = std::vector<Value>;
using Entries = std::vector<std::pair<std::string, Value>>;  // in order of insertion

struct Undefined {
  std::string name;  // of what is not there, for messages
};
struct Namespace {
  Entries entries;
};
// Arguments of a call: by position, then by name.
struct Arguments {
  List positional;
  Entries named;
  // Argument i, or the one of that name; nullptr when neither is there.
  const Value* find(size_t i, std::string_view name) const;
};
using Function = std::function<Value(Context&, const Arguments&)>;

class Value {
 public:
  Value() = default;  // None
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(int i) : data_(int64_t{i}) {}
  Value(double d) : data_(d) {}
  Value(std::string s) : data_(std::make_shared<const std::string>(std::move(s))) {}
  Value(std::string_view s) : Value(std::string(s)) {}
  Value(const char* s) : Value(std::string(s)) {}
  Value(List list) : data_(std::make_shared<const List>(std::move(list))) {}
  Value(Entries entries) : data_(std::make_shared<const Entries>(std::move(entries))) {}
  Value(Function f) : data_(std::make_shared<const Function>(std::move(f))) {}
  static Value undefined(std::string name) {
    Value v;
    v.data_ = std::make_shared<const Undefined>(Undefined{std::move(name)});
    return v;
  }
  static Value new_namespace(Entries entries) {
    Value v;
    v.data_ = std::make_shared<Namespace>(Namespace{std::move(entries)});
    return v;
  }
  static Value from_json(const Json& json);

  bool is_undefined() const { return holds<std::shared_ptr<const Undefined>>(); }
  bool is_none() const { return holds<std::monostate>(); }
  bool is_bool() const { return holds<bool>(); }
  bool is_int() const { return holds<int64_t>(); }
  bool is_float() const { return holds<double>(); }
  bool is_number() const { return is_int() || is_float() || is_bool(); }
  bool is_string() const { return holds<std::shared_ptr<const std::string>>(); }
  bool is_list() const { return holds<std::shared_ptr<const List>>(); }
  bool is_dict() const { return holds<std::shared_ptr<const Entries>>(); }
  bool is_namespace() const { return holds<std::shared_ptr<Namespace>>(); }
  bool is_function() const { return holds<std::shared_ptr<const Function>>(); }

  bool as_bool() const { return std::get<bool>(data_); }
  int64_t as_int() const { return is_bool() ? as_bool() : std::get<int64_t>(data_); }
  double as_double() const { return is_float() ? std::get<double>(data_) : static_cast<double>(as_int()); }
  const std::string& as_string() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& as_list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const Entries& as_dict() const { return *std::get<std::shared_ptr<const Entries>>(data_); }
  Namespace& as_namespace() const { return *std::get<std::shared_ptr<Namespace>>(data_); }
  const Function& as_function() const { return *std::get<std::shared_ptr<const Function>>(data_); }
  const std::string& undefined_name() const { return std::get<std::shared_ptr<const Undefined>>(data_)->name; }

  bool truth() const;
  std::string_view type_name() const;  // "string", "list", …
  std::string str() const;             // as Python's str()
  std::string repr() const;            // as Python's repr()
  struct JsonStyle {
    int indent = -1;  // < 0: on one line
    bool sort_keys = false, ensure_ascii = false;
  };
  // As Python's json.dumps.
  std::string json(const JsonStyle& style) const;
  const Value* find(std::string_view key) const;  // in a dictionary or a namespace

 private:
  template <class T>
  bool holds() const {
    return std::holds_alternative<T>(data_);
  }
  void write_repr(std::string& out, int depth) const;
  void write_json(std::string& out, const JsonStyle& style, int depth) const;
  std::variant<std::monostate, bool, int64_t, double, std::shared_ptr<const std::string>, std::shared_ptr<const List>,
               std::shared_ptr<const Entries>, std::shared_ptr<Namespace>, std::shared_ptr<const Function>,
               std::shared_ptr<const Undefined>>
      data_;
};

bool equal(const Value& a, const Value& b);
// < 0, 0, > 0; nullopt when Python has no order for the two.
std::optional<int> compare(const Value& a, const Value& b);

// Characters of UTF-8 text; bytes that are none count for one each.
size_t n_chars(std::string_view text);
std::vector<std::string_view> chars_of(std::string_view text);

// One rendering: what it may cost. Throws Error(kBadInput) at a limit.
class Context {
 public:
  // An evaluation of a node, or of one element that a builtin visits.
  void step(size_t n = 1);
  void grow(size_t n_bytes);  // bytes of strings and lists made
  struct Depth {
    explicit Depth(Context& context);
    ~Depth() { --context.depth_; }
    Context& context;
  };
  std::function<std::string(const std::string& format)> strftime_now;

 private:
  size_t steps_ = 0, bytes_ = 0, depth_ = 0;
};

}  // namespace tsubu::chat
