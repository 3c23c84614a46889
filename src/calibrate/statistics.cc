#include "calibrate/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace tsubu {
namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    names.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

// An upper triangle, row by row, as a whole symmetric matrix.
void unpack_triangle(const float* packed, size_t n, float* full) {
  for (size_t i = 0; i < n; ++i) {
    std::memcpy(full + i * n + i, packed, (n - i) * sizeof(float));
    packed += n - i;
  }
  constexpr size_t kBlock = 64;  // squares that stay in the first cache
  for (size_t bi = 0; bi < n; bi += kBlock)
    for (size_t bj = 0; bj <= bi; bj += kBlock)
      for (size_t i = bi; i < std::min(n, bi + kBlock); ++i)
        for (size_t j = bj; j < std::min(i, bj + kBlock); ++j) full[i * n + j] = full[j * n + i];
}

size_t triangle(size_t n) { return n * (n + 1) / 2; }

}  // namespace

Statistics Statistics::open(const std::string& path) {
  Statistics s;
  s.path_ = path;
  s.file_ = GgufFile::open(path);
  const GgufValue* type = s.file_.metadata().find("general.type");
  if (!type || !type->as_string() || *type->as_string() != "imatrix")
    fail(ExitCode::kBadInput, "{}: general.type: expected 'imatrix' (make statistics with `tsubu calibrate`)", path);
  if (const GgufValue* inputs = s.file_.metadata().find(kInputsKey)) {
    const GgufArray* array = inputs->as_array();
    if (!array || array->element_type != GgufValueType::kString)
      fail(ExitCode::kBadInput, "{}: {}: expected an array of strings", path, kInputsKey);
    for (const std::string& line : array->strings) {
      for (const std::string& name : split(line)) s.input_of_[name] = s.inputs_.size();
      s.inputs_.push_back(split(line));
    }
  }
  if (const GgufValue* rows = s.file_.metadata().find(kFisherRowsKey)) {
    s.output_block_rows_ = rows->as_uint().value_or(0);
    if (s.output_block_rows_ == 0) fail(ExitCode::kBadInput, "{}: {}: expected a number of rows above 0", path, kFisherRowsKey);
  }
  bool any = false;
  for (const GgufTensor& t : s.file_.tensors()) {
    if (t.type->name != "F32")
      fail(ExitCode::kBadInput, "{}: tensor {}: expected F32, found {}", path, t.name, t.type->name);
    if (!t.name.ends_with(kSquaresSuffix)) continue;
    any = true;
    const std::string name = t.name.substr(0, t.name.size() - kSquaresSuffix.size());
    const size_t n = t.n_cols();
    const auto expect = [&](std::string_view suffix, uint64_t n_values) {
      const GgufTensor* other = s.file_.find(name + std::string(suffix));
      if (other && other->n_elements() != n_values)
        fail(ExitCode::kBadInput, "{}: tensor {}: expected {} values for {} columns, found {} (calibrate again)", path,
             other->name, n_values, n, other->n_elements());
      return other != nullptr;
    };
    if (n == 0 || !expect(kCountsSuffix, t.n_elements() / n))
      fail(ExitCode::kBadInput, "{}: '{}': expected {} beside {} (calibrate again)", path, name, kCountsSuffix,
           kSquaresSuffix);
    if (expect(kGramSuffix, uint64_t{n} * (n + 1) / 2) && !(expect(kSumSuffix, n) && expect(kMaxSuffix, n)))
      fail(ExitCode::kBadInput, "{}: '{}': expected {} and {} beside {} (calibrate again)", path, name, kSumSuffix,
           kMaxSuffix, kGramSuffix);
  }
  if (!any) fail(ExitCode::kBadInput, "{}: expected tensors named NAME{}, found none", path, kSquaresSuffix);
  return s;
}

std::string_view Statistics::owner(std::string_view name) const {
  const auto found = input_of_.find(name);
  return found == input_of_.end() ? name : std::string_view(inputs_[found->second].front());
}

bool Statistics::has(std::string_view name) const {
  return file_.find(std::string(name) + std::string(kSquaresSuffix));
}

bool Statistics::has_gram(std::string_view name) const {
  return file_.find(std::string(owner(name)) + std::string(kGramSuffix)) != nullptr;
}

std::span<const float> Statistics::floats(std::string_view name, std::string_view suffix) const {
  const GgufTensor* t = file_.find(std::string(name) + std::string(suffix));
  if (!t)
    fail(ExitCode::kBadInput, "{}: no {}{} in this file (calibrate the same model{})", path_, name, suffix,
         suffix == kSquaresSuffix || suffix == kCountsSuffix ? "" : " with --gram");
  return {reinterpret_cast<const float*>(t->data.data()), t->data.size() / sizeof(float)};
}

size_t Statistics::n_cols(std::string_view name) const {
  floats(name, kSquaresSuffix);
  return file_.find(std::string(name) + std::string(kSquaresSuffix))->n_cols();
}

uint64_t Statistics::n_tokens(std::string_view name) const {
  double n = 0;
  for (float count : floats(name, kCountsSuffix)) n += static_cast<double>(count);
  return static_cast<uint64_t>(n);
}

std::vector<float> Statistics::mean_squares(std::string_view name) const {
  const std::span<const float> sums = floats(name, kSquaresSuffix), counts = floats(name, kCountsSuffix);
  std::vector<float> means(sums.size(), 1.0f);
  const size_t n = sums.size() / counts.size();
  for (size_t i = 0; i < sums.size(); ++i)
    if (counts[i / n] > 0) means[i] = sums[i] / counts[i / n];
  return means;
}

std::vector<float> Statistics::gram(std::string_view name) const {
  const std::span<const float> packed = floats(owner(name), kGramSuffix);
  const size_t n = n_cols(owner(name));
  std::vector<float> full(n * n);
  unpack_triangle(packed.data(), n, full.data());
  return full;
}

bool Statistics::has_output_gram(std::string_view name) const {
  return output_block_rows_ > 0 && file_.find(std::string(name) + std::string(kOutputGramSuffix));
}

AlignedVector<float> Statistics::output_gram(std::string_view name, size_t n_rows, size_t first_row) const {
  const std::span<const float> packed = floats(name, kOutputGramSuffix), counts = floats(name, kOutputCountsSuffix);
  size_t expected = 0, at = 0;
  for (size_t first = 0; first < n_rows; first += output_block_rows_) {
    if (first == first_row) at = expected;
    expected += triangle(std::min(output_block_rows_, n_rows - first));
  }
  if (packed.size() != expected || counts.size() != 1 || !(counts[0] > 0) || first_row % output_block_rows_ != 0)
    fail(ExitCode::kBadInput, "{}: {}{}: expected {} values over some tokens for {} rows, found {} (calibrate the same model with --fisher)",
         path_, name, kOutputGramSuffix, expected, n_rows, packed.size());
  const size_t n = std::min(output_block_rows_, n_rows - first_row);
  AlignedVector<float> full(n * n);
  unpack_triangle(packed.data() + at, n, full.data());
  for (float& v : full) v /= counts[0];
  return full;
}

std::vector<float> Statistics::means(std::string_view name) const {
  const std::span<const float> sums = floats(owner(name), kSumSuffix);
  const auto n = static_cast<double>(n_tokens(owner(name)));
  std::vector<float> r(sums.begin(), sums.end());
  for (float& v : r) v = n > 0 ? static_cast<float>(static_cast<double>(v) / n) : 0.0f;
  return r;
}

std::vector<float> Statistics::max_abs(std::string_view name) const {
  const std::span<const float> most = floats(owner(name), kMaxSuffix);
  return {most.begin(), most.end()};
}

std::vector<std::string> Statistics::sharing(std::string_view name) const {
  const auto found = input_of_.find(name);
  return found == input_of_.end() ? std::vector<std::string>() : inputs_[found->second];
}

}  // namespace tsubu
