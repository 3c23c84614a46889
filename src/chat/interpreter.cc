#include "chat/interpreter.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "chat/builtins.h"

namespace tsubu::chat {
namespace {

enum class Flow { kNext, kBreak, kContinue };

class Interpreter {
 public:
  Interpreter(Entries variables, Context& context) : context_(context) { scopes_.push_back(std::move(variables)); }

  std::string run(const Block& block) {
    std::string out;
    execute(block, out);
    return out;
  }

 private:
  [[noreturn]] void bad(int line, const std::string& what) const {
    fail(ExitCode::kBadInput, "chat template: line {}: {}", line, what);
  }

  // ---- names --------------------------------------------------------------------------------------------------------

  Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      for (const auto& [key, value] : *scope)
        if (key == name) return value;
    const Value* global = find_global(name);
    return global ? *global : Value::undefined(name);
  }

  void assign(const std::string& name, Value value) {
    for (auto& [key, old] : scopes_.back()) {
      if (key != name) continue;
      old = std::move(value);
      return;
    }
    scopes_.back().emplace_back(name, std::move(value));
  }

  void assign(const std::vector<std::string>& names, const Value& value, int line) {
    if (names.size() == 1) return assign(names[0], value);
    const List parts = elements_of(context_, value);
    if (parts.size() != names.size()) bad(line, fmt::format("{} values for {} names", parts.size(), names.size()));
    for (size_t i = 0; i < names.size(); ++i) assign(names[i], parts[i]);
  }

  // ---- statements ---------------------------------------------------------------------------------------------------

  Flow execute(const Block& block, std::string& out) {
    const Context::Depth depth(context_);
    for (const Statement& s : block) {
      context_.step();
      if (const Flow flow = execute(s, out); flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  void write(std::string& out, const std::string& text) {
    context_.grow(text.size());
    out += text;
  }

  Flow execute(const Statement& s, std::string& out) {
    switch (s.kind) {
      case StatementKind::kText:
        write(out, s.text);
        break;
      case StatementKind::kPrint:
        write(out, evaluate(*s.expression).str());
        break;
      case StatementKind::kIf:
        return execute(evaluate(*s.expression).truth() ? s.body : s.otherwise, out);
      case StatementKind::kFor:
        return loop(s, out);
      case StatementKind::kSet:
        set(s);
        break;
      case StatementKind::kMacro:
        assign(s.text, macro(s));
        break;
      case StatementKind::kCallBlock: {
        scopes_.emplace_back();
        assign("caller", macro(s));
        const Value result = evaluate(*s.expression);
        scopes_.pop_back();
        write(out, result.str());
        break;
      }
      case StatementKind::kFilter:
        write(out, filtered_body(s).str());
        break;
      case StatementKind::kBreak:
        return Flow::kBreak;
      case StatementKind::kContinue:
        return Flow::kContinue;
      case StatementKind::kScope: {
        scopes_.emplace_back();
        const Flow flow = execute(s.body, out);
        scopes_.pop_back();
        return flow;
      }
    }
    return Flow::kNext;
  }

  // The text of a block, through the statement's filters.
  Value filtered_body(const Statement& s) {
    std::string text;
    scopes_.emplace_back();
    execute(s.body, text);
    if (s.expression) {
      assign(std::string(kBlockName), Value(std::move(text)));
      const Value result = evaluate(*s.expression);
      scopes_.pop_back();
      return result;
    }
    scopes_.pop_back();
    return text;
  }

  void set(const Statement& s) {
    const Value value = s.has_body ? filtered_body(s) : evaluate(*s.expression);
    if (s.text.empty()) return assign(s.names, value, s.line);
    Value target = lookup(s.names[0]);
    if (!target.is_namespace()) bad(s.line, fmt::format("'{}.{}' is set, and '{}' is no namespace", s.names[0], s.text, s.names[0]));
    Entries& entries = target.as_namespace().entries;
    const auto at = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.first == s.text; });
    if (at != entries.end())
      at->second = value;
    else
      entries.emplace_back(s.text, value);
  }

  Flow loop(const Statement& s, std::string& out) {
    List list = elements_of(context_, evaluate(*s.expression));
    scopes_.emplace_back();
    if (s.condition) {
      List kept;
      for (const Value& v : list) {
        assign(s.names, v, s.line);
        if (evaluate(*s.condition).truth()) kept.push_back(v);
      }
      list = std::move(kept);
    }
    const size_t n = list.size();
    for (size_t i = 0; i < n; ++i) {
      context_.step(4);
      scopes_.back().clear();
      assign("loop", loop_variable(list, i));
      assign(s.names, list[i], s.line);
      if (execute(s.body, out) == Flow::kBreak) break;
    }
    scopes_.pop_back();
    return n == 0 ? execute(s.otherwise, out) : Flow::kNext;
  }

  static Value loop_variable(const List& list, size_t i) {
    const auto n = static_cast<int64_t>(list.size()), at = static_cast<int64_t>(i);
    Entries entries = {{"index", at + 1},       {"index0", at},           {"revindex", n - at}, {"revindex0", n - at - 1},
                       {"first", i == 0},       {"last", at + 1 == n},    {"length", n}};
    entries.emplace_back("previtem", i > 0 ? list[i - 1] : Value::undefined("previtem"));
    entries.emplace_back("nextitem", at + 1 < n ? list[i + 1] : Value::undefined("nextitem"));
    entries.emplace_back("cycle", Function([i](Context&, const Arguments& a) {
                           return a.positional.empty() ? Value() : a.positional[i % a.positional.size()];
                         }));
    return entries;
  }

  // The template's tree outlives every call. A macro sees its arguments and what stands at the top of the template.
  Value macro(const Statement& s) {
    return Function([this, &s](Context& c, const Arguments& a) {
      const Context::Depth depth(c);
      Entries scope;
      if (a.positional.size() > s.names.size())
        bad(s.line, fmt::format("macro '{}' takes {} arguments, {} are given", s.text, s.names.size(), a.positional.size()));
      for (size_t i = 0; i < s.names.size(); ++i) {
        const Value* given = a.find(i, s.names[i]);
        scope.emplace_back(s.names[i], given ? *given : s.defaults[i] ? evaluate(*s.defaults[i]) : Value::undefined(s.names[i]));
      }
      for (const auto& [key, value] : a.named) {
        if (key == "caller")
          scope.emplace_back(key, value);
        else if (std::find(s.names.begin(), s.names.end(), key) == s.names.end())
          bad(s.line, fmt::format("macro '{}' has no argument '{}'", s.text, key));
      }
      // A caller block sees what surrounds the call; a macro only the top.
      std::vector<Entries> outer;
      if (s.kind == StatementKind::kMacro) {
        const Value caller = lookup("caller");
        if (caller.is_function()) scope.emplace_back("caller", caller);
        outer.assign(std::make_move_iterator(scopes_.begin() + 1), std::make_move_iterator(scopes_.end()));
        scopes_.resize(1);
      }
      const size_t n_scopes = scopes_.size();
      scopes_.push_back(std::move(scope));
      std::string out;
      execute(s.body, out);
      scopes_.resize(n_scopes);
      scopes_.insert(scopes_.end(), std::make_move_iterator(outer.begin()), std::make_move_iterator(outer.end()));
      return Value(std::move(out));
    });
  }

  // ---- expressions --------------------------------------------------------------------------------------------------

  Value evaluate(const Expression& e) {
    const Context::Depth depth(context_);
    context_.step();
    try {
      return value_of(e);
    } catch (const Error& error) {
      if (std::string_view(error.what()).find("line ") != std::string_view::npos) throw;
      // What builtins say lacks the place.
      std::string what = error.what();
      constexpr std::string_view kPrefix = "chat template: ";
      if (what.starts_with(kPrefix)) what.erase(0, kPrefix.size());
      bad(e.line, what);
    }
  }

  Value operand(const Expression& e, size_t i) { return evaluate(*e.operands[i]); }

  Value value_of(const Expression& e) {
    switch (e.kind) {
      case ExpressionKind::kConstant:
        return e.value;
      case ExpressionKind::kName:
        return lookup(e.text);
      case ExpressionKind::kList: {
        List list;
        for (const auto& o : e.operands) list.push_back(evaluate(*o));
        context_.grow(list.size() * sizeof(Value));
        return list;
      }
      case ExpressionKind::kDict: {
        Entries entries;
        for (size_t i = 0; i < e.operands.size(); i += 2) {
          const Value key = operand(e, i);
          if (!key.is_string()) bad(e.line, fmt::format("a key of a dictionary: expected a string, found {}", key.type_name()));
          entries.emplace_back(key.as_string(), operand(e, i + 1));
        }
        return entries;
      }
      case ExpressionKind::kAttribute:
        return attribute(operand(e, 0), e.text);
      case ExpressionKind::kItem: {
        const Value object = operand(e, 0), key = operand(e, 1);
        Value item = item_of(object, key);
        if (item.is_undefined() && key.is_string() && (object.is_string() || object.is_dict())) item = method_of(object, key.as_string());
        return item;
      }
      case ExpressionKind::kSlice:
        return slice(e);
      case ExpressionKind::kCall:
        return call(e);
      case ExpressionKind::kFilter: {
        const Builtin filter = find_filter(e.text);
        if (!filter) bad(e.line, fmt::format("no filter named '{}'", e.text));
        return filter(context_, arguments(e, 0));
      }
      case ExpressionKind::kTest: {
        const Test test = find_test(e.text);
        if (!test) bad(e.line, fmt::format("no test named '{}'", e.text));
        return test(context_, arguments(e, 0));
      }
      case ExpressionKind::kUnary:
        return unary(e);
      case ExpressionKind::kBinary:
        return binary(e);
      case ExpressionKind::kConditional:
        if (operand(e, 1).truth()) return operand(e, 0);
        return e.operands[2] ? operand(e, 2) : Value::undefined("the other side of an if");
    }
    return {};
  }

  Arguments arguments(const Expression& e, size_t first) {
    Arguments a;
    for (size_t i = first; i < e.operands.size(); ++i) a.positional.push_back(operand(e, i));
    for (const auto& [key, value] : e.named) a.named.emplace_back(key, evaluate(*value));
    return a;
  }

  Value attribute(const Value& object, const std::string& name) {
    const Value method = method_of(object, name);
    return method.is_undefined() ? item_of(object, Value(name)) : method;
  }

  Value call(const Expression& e) {
    const Value function = operand(e, 0);
    if (!function.is_function())
      bad(e.line, function.is_undefined() ? fmt::format("'{}' is called and is not there", function.undefined_name())
                                          : fmt::format("a {} is called: expected a function", function.type_name()));
    return function.as_function()(context_, arguments(e, 1));
  }

  Value slice(const Expression& e) {
    const Value object = operand(e, 0);
    if (!object.is_list() && !object.is_string()) bad(e.line, fmt::format("a slice of {}", object.type_name()));
    const List list = elements_of(context_, object);
    const auto n = static_cast<int64_t>(list.size());
    const auto bound = [&](size_t i, int64_t otherwise) {
      if (!e.operands[i]) return otherwise;
      const Value v = operand(e, i);
      if (v.is_none()) return otherwise;
      if (!v.is_int()) bad(e.line, fmt::format("a bound of a slice: expected an integer, found {}", v.type_name()));
      return v.as_int();
    };
    const int64_t step = bound(3, 1);
    if (step == 0) bad(e.line, "a slice with a step of 0");
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    const auto place = [&](int64_t i) { return std::clamp(i < 0 ? i + n : i, low, high); };
    const int64_t begin = e.operands[1] ? place(bound(1, step > 0 ? 0 : n - 1)) : (step > 0 ? 0 : n - 1);
    const int64_t end = e.operands[2] ? place(bound(2, step > 0 ? n : -1)) : (step > 0 ? n : -1);
    List kept;
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
      kept.push_back(list[static_cast<size_t>(i)]);
      if (step > n || step < -n) break;
    }
    if (object.is_list()) return kept;
    std::string text;
    for (const Value& v : kept) text += v.as_string();
    context_.grow(text.size());
    return text;
  }

  Value unary(const Expression& e) {
    const Value v = operand(e, 0);
    if (e.text == "not") return !v.truth();
    if (!v.is_number()) bad(e.line, fmt::format("the sign of {}", v.type_name()));
    if (v.is_float()) return e.text == "-" ? -v.as_double() : v.as_double();
    return e.text == "-" && v.as_int() != INT64_MIN ? -v.as_int() : v.as_int();
  }

  Value binary(const Expression& e) {
    const std::string& op = e.text;
    if (op == "and" || op == "or") {
      Value left = operand(e, 0);
      return left.truth() == (op == "and") ? operand(e, 1) : left;
    }
    const Value a = operand(e, 0), b = operand(e, 1);
    if (op == "==") return equal(a, b);
    if (op == "!=") return !equal(a, b);
    if (op == "in") return contains(context_, b, a);
    if (op == "not in") return !contains(context_, b, a);
    if (op == "~") {
      std::string text = a.str() + b.str();
      context_.grow(text.size());
      return text;
    }
    if (op == "<" || op == "<=" || op == ">" || op == ">=") {
      const auto order = compare(a, b);
      if (!order) bad(e.line, fmt::format("no order between {} and {}", a.type_name(), b.type_name()));
      return op == "<" ? *order < 0 : op == "<=" ? *order <= 0 : op == ">" ? *order > 0 : *order >= 0;
    }
    return arithmetic(e, a, b);
  }

  Value arithmetic(const Expression& e, const Value& a, const Value& b) {
    const std::string& op = e.text;
    if (op == "+" && a.is_string() && b.is_string()) {
      context_.grow(a.as_string().size() + b.as_string().size());
      return a.as_string() + b.as_string();
    }
    if (op == "+" && a.is_list() && b.is_list()) {
      List list = elements_of(context_, a);
      const List more = elements_of(context_, b);
      list.insert(list.end(), more.begin(), more.end());
      return list;
    }
    if (op == "*" && a.is_string() && b.is_int()) {
      std::string text;
      for (int64_t i = 0; i < b.as_int(); ++i) {
        context_.step();
        context_.grow(a.as_string().size());
        text += a.as_string();
      }
      return text;
    }
    if (!a.is_number() || !b.is_number())
      bad(e.line, fmt::format("{} {} {}: not of these kinds", a.is_undefined() ? "'" + a.undefined_name() + "' (not there)" : std::string(a.type_name()),
                              op, b.is_undefined() ? "'" + b.undefined_name() + "' (not there)" : std::string(b.type_name())));
    if ((op == "/" || op == "//" || op == "%") && b.as_double() == 0) bad(e.line, "division by zero");
    if (a.is_float() || b.is_float() || op == "/" || op == "**") {
      const double x = a.as_double(), y = b.as_double();
      const double result = op == "+"    ? x + y
                            : op == "-"  ? x - y
                            : op == "*"  ? x * y
                            : op == "/"  ? x / y
                            : op == "//" ? std::floor(x / y)
                            : op == "%"  ? x - y * std::floor(x / y)
                                         : std::pow(x, y);
      const bool whole = op == "**" && !a.is_float() && !b.is_float() && y >= 0 && std::abs(result) < 9e15;
      return whole ? Value(static_cast<int64_t>(result)) : Value(result);
    }
    const int64_t x = a.as_int(), y = b.as_int();
    int64_t result = 0;
    const bool overflows = op == "+"   ? __builtin_add_overflow(x, y, &result)
                           : op == "-" ? __builtin_sub_overflow(x, y, &result)
                           : op == "*" ? __builtin_mul_overflow(x, y, &result)
                                       : x == INT64_MIN && y == -1;
    if (overflows) bad(e.line, fmt::format("{} {} {} is beyond 64 bits", x, op, y));
    if (op == "//" || op == "%") {
      // Towards minus infinity, as Python rounds.
      const int64_t quotient = x / y - (x % y != 0 && (x % y < 0) != (y < 0) ? 1 : 0);
      result = op == "//" ? quotient : x - quotient * y;
    }
    return result;
  }

  Context& context_;
  std::vector<Entries> scopes_;
};

}  // namespace

std::string render(const Block& block, Entries variables, Context& context) {
  return Interpreter(std::move(variables), context).run(block);
}

}  // namespace tsubu::chat
