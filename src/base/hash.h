// XXH3-64 of bytes and files, as 16 hexadecimal digits: to name inputs in manifests, not for security.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace tsubu {

std::string hash_bytes(std::span<const std::byte> bytes);
std::string hash_file(const std::string& path);

}  // namespace tsubu
