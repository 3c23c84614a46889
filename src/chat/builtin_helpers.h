// What filters and methods share. Texts are UTF-8; case is that of ASCII letters alone.
#pragma once

#include <string>
#include <string_view>

#include "chat/builtins.h"

namespace tsubu::chat {

inline constexpr std::string_view kSpaces = " \t\n\r\v\f";

// Throws Error(kBadInput) with "chat template: ".
[[noreturn]] void refuse_call(const std::string& what);
const std::string& text_of(const Value& v, std::string_view what);
// `otherwise` when v is nullptr or None.
int64_t integer_of(const Value* v, int64_t otherwise, std::string_view what);
const Value& needed(const Arguments& a, size_t i, std::string_view name, std::string_view what);
Value made(Context& c, std::string text);  // counted against the limits

std::string stripped(std::string_view text, std::string_view set, bool left, bool right);
// Argument 0 without the characters of argument 1 (spaces) at its ends.
std::string strip(const Arguments& a, bool left, bool right, std::string_view what);
bool is_letter(char c);
std::string upper(std::string s);
std::string lower(std::string s);
std::string capitalized(std::string s);
std::string titled(std::string s);
// most < 0: all of them.
std::string replaced(Context& c, const std::string& text, const std::string& from, const std::string& to, int64_t most);
// attribute: join these of the elements; nullptr: themselves.
Value joined(Context& c, const List& list, const std::string& separator, const Value* attribute);
Value pair_list(const Entries& entries);  // [[key, value], …]

}  // namespace tsubu::chat
