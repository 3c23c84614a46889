// Writing importance matrices, byte for byte as llama.cpp's own tool lays them out.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "container/cursor.h"
#include "container/gguf.h"
#include "container/imatrix.h"

namespace tsubu {
namespace {

void write_i32(AtomicFile& file, uint64_t value, std::string_view what) {
  if (value > uint64_t{std::numeric_limits<int32_t>::max()})
    fail(ExitCode::kBadInput, "{}: expected at most {} in the legacy form, found {} (write the GGUF form)", what,
         std::numeric_limits<int32_t>::max(), value);
  const auto narrow = static_cast<int32_t>(value);
  file.write(std::as_bytes(std::span(&narrow, 1)));
}

void check_entry(const std::string& name, const ImatrixEntry& entry) {
  if (entry.counts.empty() || entry.sum_squares.empty() || entry.sum_squares.size() % entry.counts.size() != 0)
    fail(ExitCode::kBadInput, "'{}': expected sums for each of {} matrices, found {} sums", printable(name),
         entry.counts.size(), entry.sum_squares.size());
}

// Calls (chunks) that the largest count stands for: at least 1. A chunk size of 0 means that counts are calls already.
uint64_t n_calls_of(const ImatrixEntry& entry, uint32_t chunk_size) {
  const double most = *std::max_element(entry.counts.begin(), entry.counts.end());
  return static_cast<uint64_t>(std::ceil(most / std::max<uint32_t>(chunk_size, 1)));
}

}  // namespace

void Imatrix::save_gguf(const std::string& path) const {
  GgufWriter writer(path);
  writer.metadata().set("general.type", GgufValue::string("imatrix"));
  writer.metadata().set("imatrix.datasets", GgufValue::strings(datasets));
  writer.metadata().set("imatrix.chunk_count", GgufValue::u32(chunk_count));
  writer.metadata().set("imatrix.chunk_size", GgufValue::u32(chunk_size));
  const TypeInfo& f32 = type_named("F32");
  for (const auto& [name, entry] : entries) {
    check_entry(name, entry);
    const uint64_t n_matrices = entry.counts.size(), n_cols = entry.n_cols();
    // ggml drops trailing dimensions of 1.
    const bool one = n_matrices == 1;
    writer.declare(name + ".in_sum2", one ? std::vector{n_cols} : std::vector{n_matrices, n_cols}, f32);
    writer.declare(name + ".counts", one ? std::vector{n_matrices} : std::vector{n_matrices, uint64_t{1}}, f32);
  }
  writer.begin_data();
  for (const auto& [name, entry] : entries) {
    writer.write(std::as_bytes(std::span(entry.sum_squares)));
    writer.write(std::as_bytes(std::span(entry.counts)));
  }
  writer.commit();
}

void Imatrix::save_legacy(const std::string& path) const {
  // An entry without any token is left out; a single matrix without tokens among others counts as mean squares of 1.
  std::vector<const std::pair<const std::string, ImatrixEntry>*> kept;
  for (const auto& item : entries) {
    check_entry(item.first, item.second);
    if (*std::max_element(item.second.counts.begin(), item.second.counts.end()) > 0) kept.push_back(&item);
  }
  AtomicFile file(path);
  write_i32(file, kept.size(), "number of entries");
  for (const auto* item : kept) {
    const auto& [name, entry] = *item;
    const uint64_t n_calls = n_calls_of(entry, chunk_size);
    const size_t n_cols = entry.n_cols();
    write_i32(file, name.size(), name);
    file.write(name);
    write_i32(file, n_calls, name);
    write_i32(file, entry.sum_squares.size(), name);
    std::vector<float> values(entry.sum_squares.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const float count = entry.counts[i / n_cols];
      const bool counted_in_calls = chunk_size == 0 && count == static_cast<float>(n_calls);
      const float mean = count > 0 ? entry.sum_squares[i] / count : 1.0f;
      values[i] = counted_in_calls ? entry.sum_squares[i] : mean * static_cast<float>(n_calls);
    }
    file.write(std::as_bytes(std::span(values)));
  }
  write_i32(file, chunk_count, "number of chunks");
  const std::string dataset = datasets.empty() ? "" : datasets.back();
  write_i32(file, dataset.size(), "length of the data set's name");
  file.write(dataset);
  file.commit();
}

}  // namespace tsubu
