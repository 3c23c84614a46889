// Results on stdout, numbers with their units.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"

namespace tsubu {

// Throws Error(kIo) when stdout cannot take it.
void print_out(std::string_view text);
void print_json(const Json& json);
// What print_out may have left in a buffer; Error(kIo) when it cannot be written.
void flush_out();

std::string format_count(uint64_t n);            // 7264320 → "7.26 M"
std::string format_rate(double tokens_per_s);    // "123 tokens/s"
std::string format_shape(const std::vector<uint64_t>& shape);  // "512 × 1536"
// Control characters, backslashes and bytes that are no UTF-8 as escapes: safe to show on a terminal.
std::string printable(std::string_view text);

}  // namespace tsubu
