#include "codec/type_info.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "codec/codecs.h"
#include "codec/grid.h"
#include "codec/lattice_grid.h"

namespace tsubu {
namespace {

template <class C>
constexpr GridAccess kGridAccess = grid_access<C>();
template <class C>
constexpr LatticeAccess kLatticeAccess = lattice_access<C>();

template <class C>
constexpr TypeInfo describe(uint32_t index) {
  TypeInfo info = {};
  info.name = C::kName;
  info.gguf_id = C::kGgufId;
  info.block_len = C::kBlockLen;
  info.block_bytes = sizeof(typename C::Block);
  info.is_quantized = C::kIsQuantized;
  info.index = index;
  info.decode = decode_blocks<C, PortableLanes>;
  info.summary = C::kSummary;
  if constexpr (HasGrid<C>) info.grid = &kGridAccess<C>;
  if constexpr (HasLattice<C>) info.lattice = &kLatticeAccess<C>;
  if constexpr (requires { C::kFallback; }) info.fallback = C::kFallback;
  if constexpr (Encodable<C>) {
    info.encode = encode_blocks<C, PortableLanes>;
    info.max_relative_error = C::kMaxRelativeError;
  }
  return info;
}

template <class... Codecs>
constexpr auto describe_all(TypeList<Codecs...>) {
  uint32_t index = 0;
  return std::array<TypeInfo, sizeof...(Codecs)>{describe<Codecs>(index++)...};
}

constexpr auto kTypes = describe_all(CodecList{});

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_name(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

// Levenshtein distance without regard to case.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::span<const TypeInfo> types() { return kTypes; }

const TypeInfo* find_type(uint32_t gguf_id) {
  for (const TypeInfo& type : kTypes)
    if (type.gguf_id == gguf_id) return &type;
  return nullptr;
}

const TypeInfo* find_type(std::string_view name) {
  for (const TypeInfo& type : kTypes)
    if (same_name(type.name, name)) return &type;
  return nullptr;
}

const TypeInfo& type_named(std::string_view name) {
  if (const TypeInfo* type = find_type(name)) return *type;
  const std::string_view clipped = name.substr(0, 64);
  const TypeInfo* nearest = &kTypes[0];
  for (const TypeInfo& type : kTypes)
    if (edit_distance(clipped, type.name) < edit_distance(clipped, nearest->name)) nearest = &type;
  fail(ExitCode::kUsage, "unknown type '{}': did you mean {}? (tsubu types lists them)", clipped, nearest->name);
}

uint64_t tensor_bytes(const TypeInfo& type, uint64_t n_rows, uint64_t n_cols) {
  if (n_cols % type.block_len != 0)
    fail(ExitCode::kBadInput, "{} columns are no multiple of {}'s block of {}: choose a type with a smaller block",
         n_cols, type.name, type.block_len);
  const uint64_t factors[] = {n_rows, n_cols / type.block_len, type.block_bytes};
  const std::optional<uint64_t> size = checked_product(factors);
  if (!size)
    fail(ExitCode::kBadInput, "a tensor of {} x {} in {} is larger than 2^64 bytes", n_rows, n_cols, type.name);
  return *size;
}

}  // namespace tsubu
