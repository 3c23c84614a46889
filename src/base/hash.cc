#include "base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "base/file.h"

namespace tsubu {

std::string hash_bytes(std::span<const std::byte> bytes) {
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

std::string hash_file(const std::string& path) {
  MappedFile file(path);
  file.sequential();
  return hash_bytes(file.bytes());
}

}  // namespace tsubu
