// Encoded tensors on their way into a file, kept in a folder beside the output (OUT.tsubu-work), so that hours of
// rounding survive an interrupt and the memory they take is the page cache's. Each tensor appears whole or not at all.
#pragma once

#include <map>
#include <span>
#include <string>

#include "base/file.h"

namespace tsubu {

struct RoundedTensor {
  std::span<const std::byte> bytes;  // encoded rows, mapped
  std::string method;                // "gptq+descent", "search" …
  // Squared output error per token on the held-out chunks, relative to that of the float weights on the same inputs,
  // and the same of plain search (both 0: not measured). Negative: nearer to the float model than the float weights are
  // here.
  double error = 0, search_error = 0;
  bool resumed = false;  // an earlier run made it
};

class RoundedStore {
 public:
  // key: everything the bytes depend on. Tensors of a run with the same key are found again; those of another are
  // removed.
  RoundedStore(const std::string& output, const std::string& key);
  ~RoundedStore();  // a folder without tensors goes
  RoundedStore(const RoundedStore&) = delete;
  RoundedStore& operator=(const RoundedStore&) = delete;
  const RoundedTensor* find(const std::string& name) const;
  const RoundedTensor& put(const std::string& name, std::span<const std::byte> bytes, const std::string& method,
                           double error, double search_error);
  const std::map<std::string, RoundedTensor>& all() const { return tensors_; }
  size_t n_resumed() const { return n_resumed_; }
  void remove();  // the folder; call when the output is there
  static std::string folder(const std::string& output) { return output + ".tsubu-work"; }

 private:
  std::string folder_;
  std::map<std::string, MappedFile> files_;
  std::map<std::string, RoundedTensor> tensors_;
  size_t n_resumed_ = 0;
};

}  // namespace tsubu
