// What a thing of this field is, for whoever meets it here: numeric formats, rounding methods, measures. Facts come
// from the lists that the code uses; numbers from a real row of weights.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/type_info.h"
#include "model/model.h"
#include "page/words.h"

namespace tsubu {

struct MetricWords {
  std::string_view name, english, japanese;
};
std::span<const MetricWords> metric_words();
std::span<const MetricWords> term_words();  // words that the others are explained with
std::span<const MetricWords> gate_words();  // certify's limits (evaluate/certify_gates.cc), by name

struct MethodWords {
  std::string_view name, english, japanese;                               // when to take it
  std::string_view japanese_summary, japanese_needs, japanese_formats;  // their English: round/methods.cc
};
std::span<const MethodWords> method_words();

// When to take a type of at least so many bits per weight; most bits first.
struct Advice {
  double from_bits;
  std::string_view english, japanese;
};
std::span<const Advice> advice_by_bits();
std::string_view japanese_of_type(std::string_view name);  // empty: no such type

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
// The values as a type stores them; n a multiple of its block. The type can be encoded.
std::vector<float> stored_as(std::span<const float> values, const TypeInfo& type);
double relative_error(std::span<const float> values, std::span<const float> stored);
// What a type is, how it stores and computes, what it costs, when to take it: without the example.
std::string describe_type(const TypeInfo& type, Language language);

}  // namespace tsubu
