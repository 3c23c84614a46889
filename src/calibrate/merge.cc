// Adding statistics files up, tensor by tensor, a piece at a time.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "calibrate/calibrate.h"
#include "calibrate/statistics.h"

namespace tsubu {
namespace {

constexpr size_t kPiece = size_t{1} << 18;  // floats

std::vector<std::string> strings_of(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  const GgufArray* array = value ? value->as_array() : nullptr;
  return array && array->element_type == GgufValueType::kString ? array->strings : std::vector<std::string>();
}

uint64_t uint_of(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  return value ? value->as_uint().value_or(0) : 0;
}

// Error(kBadInput) when b lacks a tensor that a has.
void check_has_all(const GgufFile& a, const std::string& path_a, const GgufFile& b, const std::string& path_b) {
  for (const GgufTensor& t : a.tensors()) {
    const GgufTensor* other = b.find(t.name);
    if (!other)
      fail(ExitCode::kBadInput,
           "{}: no tensor {} as in {}: only statistics of one model, all with Gram matrices or all without, can be "
           "merged",
           path_b, t.name, path_a);
    if (other->shape != t.shape)
      fail(ExitCode::kBadInput, "{}: tensor {} is of another shape than in {}: statistics of another model", path_b,
           t.name, path_a);
  }
}

void check_alike(const GgufFile& a, const std::string& path_a, const GgufFile& b, const std::string& path_b) {
  check_has_all(a, path_a, b, path_b);
  check_has_all(b, path_b, a, path_a);
  if (strings_of(a.metadata(), kInputsKey) != strings_of(b.metadata(), kInputsKey))
    fail(ExitCode::kBadInput, "{}: other inputs share Gram matrices than in {}: statistics of another model", path_b,
         path_a);
  constexpr const char* kSize = "imatrix.chunk_size";
  if (uint_of(a.metadata(), kSize) != uint_of(b.metadata(), kSize))
    fail(ExitCode::kBadInput, "{}: chunks of {} tokens, in {} of {}: only statistics of one context can be merged",
         path_b, uint_of(b.metadata(), kSize), path_a, uint_of(a.metadata(), kSize));
  if (uint_of(a.metadata(), kFisherRowsKey) != uint_of(b.metadata(), kFisherRowsKey))
    fail(ExitCode::kBadInput, "{}: output gradients in blocks of {} rows, in {} of {}: only blocks of one size can be merged (the same --memory makes them)",
         path_b, uint_of(b.metadata(), kFisherRowsKey), path_a, uint_of(a.metadata(), kFisherRowsKey));
  constexpr const char* kHashes = "tsubu.calibrate.model_hashes";
  const auto hashes_a = strings_of(a.metadata(), kHashes), hashes_b = strings_of(b.metadata(), kHashes);
  if (!hashes_a.empty() && !hashes_b.empty() && hashes_a != hashes_b)
    warn(fmt::format("{} and {} are of files with different weights: merged all the same", path_a, path_b));
}

template <class T, class Get>
std::vector<T> joined(const std::vector<GgufFile>& files, Get get) {
  std::vector<T> all;
  for (const GgufFile& file : files)
    for (const auto& v : get(file.metadata())) all.push_back(static_cast<T>(v));
  return all;
}

std::vector<double> numbers_of(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  return value ? value->as_numbers() : std::vector<double>();
}

}  // namespace

uint64_t merge_statistics(const std::vector<std::string>& paths, const std::string& output) {
  if (paths.size() < 2) fail(ExitCode::kUsage, "calibrate --merge: expected two files or more, found {}", paths.size());
  std::vector<GgufFile> files;
  for (const std::string& path : paths) {
    if (same_file(path, output)) fail(ExitCode::kUsage, "{}: the output is one of the files to merge", output);
    Statistics::open(path);  // refuses what is no statistics file
    files.push_back(GgufFile::open(path));
    check_alike(files.front(), paths.front(), files.back(), path);
  }
  GgufWriter writer(output);
  for (const auto& [key, value] : files.front().metadata().items()) writer.metadata().set(key, value);
  uint64_t n_chunks = 0;
  for (const GgufFile& file : files) n_chunks += uint_of(file.metadata(), "imatrix.chunk_count");
  writer.metadata().set("imatrix.chunk_count", GgufValue::u32(static_cast<uint32_t>(n_chunks)));
  for (const char* key : {"imatrix.datasets", "tsubu.calibrate.text_hashes"})
    writer.metadata().set(
        key, GgufValue::strings(joined<std::string>(files, [&](const GgufMetadata& m) { return strings_of(m, key); })));
  constexpr const char *kWeights = "tsubu.calibrate.text_weights", *kChunks = "tsubu.calibrate.text_chunks";
  writer.metadata().set(
      kWeights, GgufValue::f32s(joined<float>(files, [&](const GgufMetadata& m) { return numbers_of(m, kWeights); })));
  writer.metadata().set(
      kChunks, GgufValue::i32s(joined<int32_t>(files, [&](const GgufMetadata& m) { return numbers_of(m, kChunks); })));
  for (const GgufTensor& t : files.front().tensors()) writer.declare(t.name, t.shape, *t.type);
  writer.begin_data();
  std::vector<double> sums;
  std::vector<float> rounded;
  for (const GgufTensor& t : files.front().tensors()) {
    const bool is_max = t.name.ends_with(kMaxSuffix);
    const size_t n = t.n_elements();
    for (size_t begin = 0; begin < n; begin += kPiece) {
      throw_if_interrupted();
      const size_t piece = std::min(kPiece, n - begin);
      sums.assign(piece, 0.0);
      for (const GgufFile& file : files) {
        const auto* values = reinterpret_cast<const float*>(file.find(t.name)->data.data()) + begin;
        for (size_t i = 0; i < piece; ++i) {
          const auto v = static_cast<double>(values[i]);
          sums[i] = is_max ? std::max(sums[i], v) : sums[i] + v;
        }
      }
      rounded.assign(sums.begin(), sums.end());
      writer.write(std::as_bytes(std::span(rounded)));
    }
  }
  writer.commit();
  return std::filesystem::file_size(output);
}

}  // namespace tsubu
