// How texts become chunks.
#include "calibrate/corpus.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace tsubu {
namespace {

const std::string kModel = TSUBU_SOURCE_DIR "/models/grain-7m";

using Shares = std::vector<uint32_t>;

TEST(ShareChunks, EqualWeightsWithoutALimitTakeEverything) {
  EXPECT_EQ(share_chunks({10, 3}, {1, 1}, 0), (Shares{10, 3}));
  EXPECT_EQ(share_chunks({7}, {0.25}, 0), (Shares{7}));
}

TEST(ShareChunks, WeightsAreShares) {
  EXPECT_EQ(share_chunks({100, 100}, {1, 0.5}, 90), (Shares{60, 30}));
  EXPECT_EQ(share_chunks({100, 100}, {1, 1}, 5), (Shares{3, 2}));
  EXPECT_EQ(share_chunks({100, 100, 100}, {1, 1, 2}, 2), (Shares{1, 0, 1}));
  EXPECT_EQ(share_chunks({100, 10}, {1, 0.5}, 0), (Shares{20, 10})) << "as many as keep the shares";
  EXPECT_EQ(share_chunks({3, 100}, {1, 1e-6}, 0), (Shares{3, 0}));
}

TEST(ShareChunks, WhatATextCannotGiveGoesToTheOthers) {
  EXPECT_EQ(share_chunks({4, 100}, {1, 1}, 20), (Shares{4, 16}));
  EXPECT_EQ(share_chunks({4, 5, 100}, {8, 1, 1}, 20), (Shares{4, 5, 11}));
  EXPECT_EQ(share_chunks({4, 5}, {1, 1}, 100), (Shares{4, 5}));
}

TEST(CorpusText, TakesAWeightAfterAColon) {
  EXPECT_EQ(parse_corpus_text("a.txt").path, "a.txt");
  EXPECT_EQ(parse_corpus_text("a.txt").weight, 1);
  EXPECT_EQ(parse_corpus_text("a.txt:0.25").path, "a.txt");
  EXPECT_EQ(parse_corpus_text("a.txt:0.25").weight, 0.25);
  for (const char* bad : {"a:", "a:x", "a:0", "a:-1", "a:nan", "a:inf", "a:1x"})
    EXPECT_THROW(parse_corpus_text(bad), Error) << bad;
  const std::string odd = std::string(::testing::TempDir()) + "/text:2";
  write_text_file(odd, "x");
  EXPECT_EQ(parse_corpus_text(odd).path, odd);
  std::filesystem::remove(odd);
}

TEST(Corpus, CutsTextsAsTheFieldDoes) {
  const auto model = Model::open(kModel);
  CorpusOptions options;
  options.texts = {{kModel + "/calib.txt", 1}, {kModel + "/heldout.txt", 1}};
  options.context = 64;
  options.max_chunks = 5;
  const Corpus corpus = read_corpus(*model, options);
  ASSERT_EQ(corpus.chunks.size(), 5u);
  EXPECT_EQ(corpus.n_tokens(), 5u * 64);
  ASSERT_EQ(corpus.sources.size(), 2u);
  EXPECT_EQ(corpus.sources[0].n_chunks, 3u);
  EXPECT_EQ(corpus.sources[1].n_chunks, 2u);
  EXPECT_EQ(corpus.sources[1].hash, hash_file(kModel + "/heldout.txt"));

  const auto tokenizer = model->make_tokenizer();
  const Vocabulary& vocabulary = model->vocabulary();
  size_t chunk = 0;
  for (size_t text = 0; text < 2; ++text) {
    const auto tokens = tokenizer->encode(read_text_file(options.texts[text].path));
    EXPECT_EQ(corpus.sources[text].n_tokens, tokens.size());
    for (size_t c = 0; c < corpus.sources[text].n_chunks; ++c, ++chunk) {
      ASSERT_EQ(corpus.chunks[chunk].size(), 64u);
      for (size_t t = 0; t < 64; ++t) {
        const bool bos = t == 0 && vocabulary.add_bos;
        EXPECT_EQ(corpus.chunks[chunk][t], bos ? vocabulary.bos : tokens[c * 64 + t]);
      }
    }
  }
  EXPECT_EQ(read_corpus(*model, options).hash, corpus.hash);
  options.max_chunks = 4;
  EXPECT_NE(read_corpus(*model, options).hash, corpus.hash);
}

TEST(Corpus, RefusesTextsThatAreTooShort) {
  const auto model = Model::open(kModel);
  const std::string path = std::string(::testing::TempDir()) + "/short_calibration.txt";
  write_text_file(path, "short");
  CorpusOptions options;
  options.texts = {{path, 1}};
  EXPECT_THROW(read_corpus(*model, options), Error);
  options.texts = {};
  EXPECT_THROW(read_corpus(*model, options), Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tsubu
