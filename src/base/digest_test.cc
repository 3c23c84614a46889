#include "base/digest.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace tsubu {
namespace {

// FIPS 180-4's examples.
TEST(Digest, Sha256OfKnownTexts) {
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, PiecesGiveTheWhole) {
  Digest digest(Digest::Kind::kSha256);
  digest.update("a");
  digest.update("");
  digest.update("bc");
  EXPECT_EQ(digest.hex(), sha256_of("abc"));
}

// `printf 'hello\n' | git hash-object --stdin`, and of nothing.
TEST(Digest, GitBlobNames) {
  Digest hello = git_blob_digest(6);
  hello.update("hello\n");
  EXPECT_EQ(hello.hex(), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(git_blob_digest(0).hex(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST(Digest, OfAFileLargerThanOneRead) {
  const auto path = std::filesystem::temp_directory_path() / "tsubu-digest-test";
  std::string text;
  for (int i = 0; i < 300000; ++i) text += "grain " + std::to_string(i);
  write_text_file(path.string(), text);
  const FileDigest digest = digest_file(path.string());
  std::filesystem::remove(path);
  EXPECT_EQ(digest.size_bytes, text.size());
  EXPECT_EQ(digest.sha256, sha256_of(text));
  EXPECT_THROW(digest_file(path.string()), Error);
}

}  // namespace
}  // namespace tsubu
