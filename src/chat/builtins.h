// What templates may call: filters, tests, methods of strings and dictionaries, global functions. One list for each.
#pragma once

#include <string_view>

#include "chat/value.h"

namespace tsubu::chat {

// `arguments` starts with the value that is filtered or tested. nullptr: there is none of that name.
using Builtin = Value (*)(Context&, const Arguments&);
Builtin find_filter(std::string_view name);
using Test = bool (*)(Context&, const Arguments&);
Test find_test(std::string_view name);

// Method `name` of a string or a dictionary, bound to it; undefined when there is none.
Value method_of(const Value& object, std::string_view name);
// raise_exception, strftime_now, namespace, range, dict; nullptr when there is none of that name.
const Value* find_global(std::string_view name);

// Elements: of a list, the keys of a dictionary, the characters of a string; none of undefined.
// Throws Error(kBadInput) for others.
List elements_of(Context& context, const Value& value);
// What is in brackets after a value: object[key]; undefined when it is not there.
Value item_of(const Value& object, const Value& key);
bool contains(Context& context, const Value& container, const Value& value);

}  // namespace tsubu::chat
