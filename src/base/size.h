// Sizes as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tsubu {

// "6GiB", "500MB", "1.5 GiB", "1234" (bytes) → bytes. Binary units (KiB…) are powers of 1024, decimal ones (kB…) of
// 1000; a bare K, M, G, T means the binary one. Throws Error(kUsage) on anything else.
uint64_t parse_size_bytes(std::string_view text);

// "4.5" or "4.5bpw" → bits per weight. Throws Error(kUsage) unless it is a finite number in (0, 64].
double parse_bits_per_weight(std::string_view text);

// 1536 → "1.50 KiB".
std::string format_size(uint64_t bytes);

// 75.3 → "1m15s".
std::string format_duration(double seconds);

// The candidate nearest to word by edit distance, or empty when none is close: for "did you mean".
std::string nearest_name(std::string_view word, const std::string* candidates, size_t n_candidates);

}  // namespace tsubu
