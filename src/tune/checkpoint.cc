#include "tune/checkpoint.h"

#include "base/error.h"

namespace tsubu {

SafetensorsFile open_checkpoint(const std::string& path) {
  try {
    return SafetensorsFile::open(path);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kBadInput) throw;
    fail(ExitCode::kBadInput, "{}: a checkpoint that cannot be read (remove it to start anew): {}", path, e.what());
  }
}

void check_checkpoint_key(bool is_same, const std::string& path) {
  if (is_same) return;
  fail(ExitCode::kUsage,
       "{}: a checkpoint of a run with another model, text or other options: give those to go on, remove the file to start anew, or "
       "write elsewhere",
       path);
}

}  // namespace tsubu
