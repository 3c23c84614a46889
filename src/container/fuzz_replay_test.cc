// Replays the corpus of the fuzz targets: nothing but tsubu::Error may escape.
#include "container/fuzz_bodies.h"
#include "container/test_bytes.h"

namespace tsubu {
namespace {

void replay(const std::string& kind, bool (*parses)(std::span<const std::byte>)) {
  size_t n_files = 0, n_valid = 0;
  for (const auto& file : std::filesystem::directory_iterator(TSUBU_SOURCE_DIR "/tests/fuzz/" + kind)) {
    SCOPED_TRACE(file.path().string());
    n_valid += parses(bytes_of(read_text_file(file.path().string())));
    ++n_files;
  }
  EXPECT_GT(n_valid, 1u) << kind;
  EXPECT_GT(n_files, n_valid) << kind;
}

TEST(FuzzCorpus, Gguf) { replay("gguf", try_gguf); }
TEST(FuzzCorpus, Safetensors) { replay("safetensors", try_safetensors); }
TEST(FuzzCorpus, Imatrix) { replay("imatrix", try_imatrix); }

}  // namespace
}  // namespace tsubu
