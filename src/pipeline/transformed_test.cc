// Transforms on the way into rounding: what is refused, what stays the same, what a layout says of it.
#include "pipeline/transformed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "container/test_bytes.h"
#include "engine/engine.h"
#include "engine/random_model.h"
#include "model/test_models.h"
#include "pipeline/write_layout.h"

namespace tsubu {
namespace {

Corpus corpus_of(const Model& model, size_t n_chunks) {
  Corpus corpus;
  corpus.context = 24;
  for (uint32_t i = 0; i < n_chunks; ++i)
    corpus.chunks.push_back(random_tokens(corpus.context, model.hparams().n_vocab, i));
  return corpus;
}

RandomModelOptions options_of(bool gpt2) {
  RandomModelOptions o;
  o.gpt2 = gpt2;
  o.n_ff = 64;
  return o;
}

AwqOptions to_type(const char* type) {
  AwqOptions awq;
  awq.type_of = [type](const std::string&) { return &type_named(type); };
  return awq;
}

ExitCode refusal_of(const Model& model, const TransformRequest& request, const Corpus* corpus, std::string& what) {
  ThreadPool pool(1);
  try {
    transform_for_rounding(model, request, corpus, to_type("Q4_0"), "out.gguf", false, pool);
  } catch (const Error& error) {
    what = error.what();
    return error.code();
  }
  return ExitCode::kDone;
}

TEST(Transformed, LooksOnlyAtWindowsThatDoNotJudge) {
  const RandomModel model(options_of(false));
  const Corpus corpus = corpus_of(model, 24), some = transform_corpus(corpus);
  EXPECT_EQ(some.chunks.size(), 21u);
  for (size_t c : {7, 15, 23})
    EXPECT_EQ(std::find(some.chunks.begin(), some.chunks.end(), corpus.chunks[c]), some.chunks.end());
  const Corpus all = corpus_of(model, 3);
  EXPECT_EQ(transform_corpus(all).chunks, all.chunks);
}

TEST(Transformed, SaysHowFarTheFloatModelMoved) {
  const RandomModel model(options_of(false));
  const Corpus corpus = corpus_of(model, 16);
  ThreadPool pool(2);
  const TransformedModel t = transform_for_rounding(model, {{"rotate-residual", "awq"}, {}, 7}, &corpus,
                                                    to_type("Q4_0"), "out.gguf", false, pool);
  ASSERT_FALSE(t.notes.empty());
  EXPECT_NE(t.notes.back().find("rotate-residual + awq: the float model itself diverges"), std::string::npos)
      << t.notes.back();
  EXPECT_EQ(t.treatment["seed"], 7);
  EXPECT_EQ(t.treatment["tokens"], 14 * 24);
  EXPECT_EQ(t.reports.size(), 2u);
}

// Rows are let go while a model is quantized and read again later.
TEST(Transformed, RowsThatWereLetGoAreStillThere) {
  const RandomModel model(options_of(false));
  ThreadPool pool(1);
  const TransformedModel t =
      transform_for_rounding(model, {{"rotate-residual"}, {}, 1}, nullptr, {}, "out.gguf", false, pool);
  const ModelTensor& tensor = t.model->tensor("token_embd.weight");
  std::vector<float> before(tensor.n_elements()), after(before.size());
  tensor.read_rows(0, tensor.n_rows(), before.data());
  tensor.release_rows(0, tensor.n_rows());
  tensor.read_rows(0, tensor.n_rows(), after.data());
  EXPECT_EQ(before, after);
}

TEST(Transformed, RefusesWhatCannotBe) {
  const RandomModel llama(options_of(false)), gpt2(options_of(true));
  const Corpus corpus = corpus_of(llama, 2);
  std::string what;
  EXPECT_EQ(refusal_of(llama, {{"clip"}, {}, 1}, &corpus, what), ExitCode::kUsage);
  EXPECT_NE(what.find("tsubu transform --clip"), std::string::npos) << what;
  EXPECT_EQ(refusal_of(llama, {{"awq"}, {}, 1}, nullptr, what), ExitCode::kUsage);
  EXPECT_NE(what.find("--text"), std::string::npos) << what;
  EXPECT_EQ(refusal_of(gpt2, {{"rotate-residual"}, {}, 1}, nullptr, what), ExitCode::kUnsupported);
  EXPECT_NE(what.find("layer norm"), std::string::npos) << what;
}

TEST(Transformed, AwqSearchesWithAFormatThatIsNoType) {
  const RandomModel random(options_of(false));
  ThreadPool pool(2);
  EditableModel model(random);
  for (const char* norm : {"blk.0.attn_norm.weight", "blk.1.ffn_norm.weight"})
    model.edit_rows(norm, pool, [](uint64_t, std::span<double> gain) {
      for (size_t c = 0; c < gain.size(); c += 5) gain[c] *= 12;
    });
  const Corpus corpus = corpus_of(model, 16);
  const SimFormat format = SimFormat::parse("int3:group=16");
  const AwqOptions awq = awq_for_formats(
      [&](const std::string& name) { return name.find("ffn_down") == std::string::npos ? &format : nullptr; }, true);
  const TransformedModel t = transform_for_rounding(model, {{"awq"}, {}, 1}, &corpus, awq, "out.gguf", false, pool);
  const auto& groups = t.reports.at(0).groups;
  ASSERT_EQ(groups.size(), 6u);  // of eight: the two of ffn_down are not rounded
  EXPECT_GT(groups[0].alpha, 0);
  EXPECT_LT(groups[0].error, 0.8 * groups[0].error_before);
}

// A directory whose head was the token embedding says that it no longer is.
TEST(Transformed, ATiedHeadOfALayoutIsUntied) {
  TinyModel tiny = tiny_llama();
  tiny.config["tie_word_embeddings"] = true;
  tiny.remove("lm_head.weight");
  TemporaryFolder folder;
  tiny.write(folder.path().string());
  const auto model = Model::open(folder.path().string());
  ThreadPool pool(1);
  WriteLayoutOptions options;
  options.output = (folder.path() / "out").string();
  options.scheme = &layout_scheme("compressed-tensors", "W8A16");
  options.n_threads = 1;
  const TransformedModel t =
      transform_for_rounding(*model, {{"rotate-residual"}, {}, 1}, nullptr, {}, options.output, false, pool);
  options.untransformed = model.get();
  options.transform = t.treatment;
  write_layout(*t.model, options);
  const auto written = Model::open(options.output);
  EXPECT_NE(written->find("output.weight"), nullptr);
  const Json config = parse_json(read_text_file(options.output + "/config.json", 1 << 20), "config.json");
  EXPECT_EQ(config["tie_word_embeddings"], false);
  const auto tokens = random_tokens(20, 257, 9);
  std::vector<float> logits[2];
  double error = 0, square = 0;
  for (int i = 0; i < 2; ++i) {
    const auto engine = Engine::make(i ? *written : *model, pool);
    logits[i].resize(tokens.size() * engine->n_vocab());
    engine->forward(*engine->new_session(tokens.size()), tokens, tokens.size(), logits[i]);
  }
  for (size_t i = 0; i < logits[0].size(); ++i) {
    const double a = static_cast<double>(logits[0][i]), d = static_cast<double>(logits[1][i]) - a;
    error += d * d;
    square += a * a;
  }
  EXPECT_LT(std::sqrt(error / square), 0.05);  // 8-bit weights
}

}  // namespace
}  // namespace tsubu
