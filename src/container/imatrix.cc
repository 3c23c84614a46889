// Importance matrices in memory: telling the two forms apart, the checks both share, and means.
#include "container/imatrix.h"

#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/file.h"
#include "container/cursor.h"
#include "container/gguf.h"

namespace tsubu {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

// Values that may be used: finite and not negative (sums of squares, counts).
void check_values(std::span<const float> values, const Cursor& in, uint64_t at, std::string_view name) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]) || values[i] < 0)
      in.bad_at(at + i * sizeof(float), "'{}': expected finite values ≥ 0, found {} at {} (calibrate again)",
                printable(name), values[i], i);
}

std::vector<float> floats_of(std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

std::vector<float> floats_of(const GgufTensor& tensor, const Cursor& in) {
  if (tensor.type->name != "F32")
    in.bad_at(tensor.offset, "'{}': expected F32, found {}", printable(tensor.name), tensor.type->name);
  std::vector<float> values = floats_of(tensor.data);
  check_values(values, in, tensor.offset, tensor.name);
  return values;
}

uint32_t u32_of(const GgufMetadata& metadata, std::string_view key, const std::string& path) {
  const GgufValue* value = metadata.find(key);
  if (!value) return 0;
  const auto number = value->as_uint();
  if (!number || *number > UINT32_MAX)
    fail(ExitCode::kBadInput, "{}: {}: expected an unsigned 32-bit integer, found another value", path, key);
  return static_cast<uint32_t>(*number);
}

Imatrix parse_gguf(std::span<const std::byte> bytes, const std::string& path) {
  const GgufFile file = GgufFile::parse(bytes, path);
  const GgufMetadata& metadata = file.metadata();
  const GgufValue* type = metadata.find("general.type");
  const bool says_so = type && type->as_string() && *type->as_string() == "imatrix";
  if (!says_so && !metadata.find("imatrix.chunk_count"))
    fail(ExitCode::kBadInput, "{}: general.type: expected 'imatrix', found {} (this is no importance matrix; make one "
         "with `tsubu calibrate`)", path,
         type && type->as_string() ? "'" + printable(*type->as_string()) + "'" : "none");

  Imatrix result;
  result.chunk_count = u32_of(metadata, "imatrix.chunk_count", path);
  result.chunk_size = u32_of(metadata, "imatrix.chunk_size", path);
  if (const GgufValue* datasets = metadata.find("imatrix.datasets")) {
    const GgufArray* array = datasets->as_array();
    if (!array || (array->element_type != GgufValueType::kString && array->size() > 0))
      fail(ExitCode::kBadInput, "{}: imatrix.datasets: expected an array of strings, found another value", path);
    result.datasets = array->strings;
  }

  const Cursor in(bytes, path);
  for (const GgufTensor& tensor : file.tensors()) {
    const bool is_sums = tensor.name.ends_with(kSums), is_counts = tensor.name.ends_with(kCounts);
    if (!is_sums && !is_counts) continue;  // other statistics may live beside them
    const std::string name = tensor.name.substr(0, tensor.name.size() - (is_sums ? kSums : kCounts).size());
    ImatrixEntry& entry = result.entries[name];
    (is_sums ? entry.sum_squares : entry.counts) = floats_of(tensor, in);
  }
  for (const auto& [name, entry] : result.entries) {
    const GgufTensor *sums = file.find(name + std::string(kSums)), *counts = file.find(name + std::string(kCounts));
    if (!sums || !counts)
      fail(ExitCode::kBadInput, "{}: '{}': expected both {} and {}, found only one of them (calibrate again)", path,
           printable(name), kSums, kCounts);
    if (entry.counts.empty() || entry.sum_squares.empty() || entry.sum_squares.size() % entry.counts.size() != 0 ||
        sums->n_cols() != entry.n_cols())
      in.bad_at(counts->offset, "'{}': expected one count for each matrix of {} columns, found {} counts for {} sums",
                printable(name), sums->n_cols(), entry.counts.size(), entry.sum_squares.size());
  }
  if (result.entries.empty())
    fail(ExitCode::kBadInput, "{}: expected tensors named NAME{} and NAME{}, found none (calibrate again)", path, kSums,
         kCounts);
  return result;
}

// A count or length of the legacy form: a 32-bit integer that must lie in [low, high].
uint64_t read_i32(Cursor& in, int64_t low, uint64_t high, std::string_view what) {
  const uint64_t at = in.offset();
  const auto n = in.read<int32_t>(what);
  if (n < low || static_cast<uint64_t>(n) > high)
    in.bad_at(at, "{}: expected {} to {}, found {} (the file is truncated, damaged, or no importance matrix)", what,
              low, high, n);
  return static_cast<uint64_t>(n);
}

// i32 n_entries; each {i32 length, name, i32 n_calls, i32 n_values, f32 values}; then, optional, i32 n_chunks and
// {i32 length, data set}. A value is the mean square times n_calls.
Imatrix parse_legacy(std::span<const std::byte> bytes, const std::string& path) {
  constexpr uint64_t kMinEntryBytes = 4 + 1 + 4 + 4 + 4;
  Cursor in(bytes, path);
  if (in.remaining() < 4)
    in.bad_at(0, "expected an importance matrix, found {} bytes (the file is truncated: get it again)", bytes.size());
  const uint64_t n_entries = read_i32(in, 1, (in.remaining() - 4) / kMinEntryBytes, "number of entries");
  Imatrix result;
  for (uint64_t i = 0; i < n_entries; ++i) {
    const uint64_t at = in.offset();
    const uint64_t name_bytes = read_i32(in, 1, in.remaining(), "length of a name");
    const std::string name(in.text(name_bytes, "name"));
    const uint64_t n_calls = read_i32(in, 0, INT32_MAX, "number of calls");
    const uint64_t n_values = read_i32(in, 1, in.remaining() / sizeof(float), "number of values");
    const uint64_t values_at = in.offset();
    ImatrixEntry entry;
    entry.sum_squares = floats_of(in.take(n_values * sizeof(float), "values"));
    check_values(entry.sum_squares, in, values_at, name);
    // Writers of old left the number of calls at 0 where the values are means already.
    entry.counts = {n_calls == 0 ? 1.0f : static_cast<float>(n_calls)};
    if (!result.entries.emplace(name, std::move(entry)).second)
      in.bad_at(at, "'{}': expected every name once, found it twice", printable(name));
  }
  if (in.remaining() > 0) {
    result.chunk_count = static_cast<uint32_t>(read_i32(in, 0, INT32_MAX, "number of chunks"));
    if (in.remaining() > 0) {
      const uint64_t length = read_i32(in, 0, in.remaining(), "length of the data set's name");
      if (length > 0) result.datasets.emplace_back(in.text(length, "data set's name"));
    }
  }
  if (in.remaining() > 0)
    in.bad_at(in.offset(), "expected the end of the file, found {} more bytes (damaged, or no importance matrix)",
              in.remaining());
  return result;
}

}  // namespace

std::vector<float> ImatrixEntry::mean_squares(size_t m) const {
  const size_t n = n_cols();
  std::vector<float> mean(n, 1.0f);
  if (counts[m] > 0)
    for (size_t i = 0; i < n; ++i) mean[i] = sum_squares[m * n + i] / counts[m];
  return mean;
}

Imatrix Imatrix::parse(std::span<const std::byte> bytes, const std::string& path) {
  const bool is_gguf = bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
  return is_gguf ? parse_gguf(bytes, path) : parse_legacy(bytes, path);
}

Imatrix Imatrix::load(const std::string& path) {
  const MappedFile file(path);
  return parse(file.bytes(), path);
}

}  // namespace tsubu
