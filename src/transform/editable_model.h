// A copy of a model whose weights can be changed: what is changed is held as F32, in memory or in a nameless file of a
// folder, everything else stays where the source has it. Changes are computed in double and rounded once for each call.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/scratch.h"
#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

class EditableModel : public Model {
 public:
  // The source must outlive it. folder: of what is changed; empty: memory.
  explicit EditableModel(const Model& source, std::string folder = "");

  using Change = std::function<void(uint64_t index, std::span<double> values)>;
  // change(row, its values) for every row; a vector (a norm, a bias) is one row. Called from several threads.
  void edit_rows(const std::string& name, ThreadPool& pool, const Change& change);
  // change(column, its values) for every column of a matrix; of experts for every column of each one's.
  void edit_columns(const std::string& name, ThreadPool& pool, const Change& change);
  // Where the head is the token embedding it gets a matrix of its own, output.weight, a copy. False: it has one.
  bool untie_head();
  GgufMetadata& metadata() { return metadata_; }
  std::vector<double> vector(const std::string& name) const;  // all values of a small tensor

 private:
  std::span<float> floats(const std::string& name);  // decoded at the first call
  std::span<float> allocate(const std::string& name, uint64_t n);
  std::string folder_;
  std::map<std::string, ScratchMemory> edited_;
};

}  // namespace tsubu
