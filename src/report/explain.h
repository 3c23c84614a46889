// What a thing of this field is, for whoever meets it here: numeric formats, rounding methods, measures. Facts come
// from the lists that the code uses; numbers from a real row of weights.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/model.h"
#include "report/words.h"

namespace tsubu {

struct MetricWords {
  std::string_view name, english, japanese;
};
std::span<const MetricWords> metric_words();

struct MethodWords {
  std::string_view name, english, japanese;  // when to take it
};
std::span<const MethodWords> method_words();

// A row of weights to show formats on.
struct ExampleRow {
  std::string source;  // "blk.0.attn_q.weight, row 3 of model.gguf"
  std::vector<float> values;
};
// The row of a matrix of the model; name empty: the first matrix of the blocks. Throws Error(kUsage).
ExampleRow example_row(const Model& model, const std::string& tensor, uint64_t row);
// 256 weights of the model that the project ships: for when no model is given.
ExampleRow built_in_row();

// Everything that can be explained, by kind. Throws Error(kUsage) on an unknown name, with the nearest.
std::string explain_overview(Language language);
std::string explain(std::string_view name, const ExampleRow& row, Language language);

}  // namespace tsubu
