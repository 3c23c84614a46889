#include "evaluate/generation.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "engine/engine.h"

namespace tsubu {
namespace {

constexpr size_t kDefaultContext = 4096;  // when a model does not say how long its context is
constexpr size_t kRun = 4;                // tokens of a repetition
constexpr size_t kWorstShown = 5;

double mean_repetition(std::span<const Generation> all) {
  double sum = 0;
  for (const Generation& g : all) sum += g.repetition;
  return all.empty() ? 0 : sum / static_cast<double>(all.size());
}

size_t total_tokens(std::span<const Generation> all) {
  size_t n = 0;
  for (const Generation& g : all) n += g.tokens.size();
  return n;
}

uint32_t count_unended(std::span<const Generation> all) {
  return static_cast<uint32_t>(std::count_if(all.begin(), all.end(), [](const Generation& g) { return !g.ended; }));
}

}  // namespace

double repetition_share(std::span<const TokenId> tokens) {
  if (tokens.size() < kRun) return 0;
  std::set<std::vector<TokenId>> seen;
  size_t repeated = 0;
  const size_t n = tokens.size() - kRun + 1;
  for (size_t i = 0; i < n; ++i)
    repeated += !seen.insert(std::vector<TokenId>(tokens.begin() + static_cast<ptrdiff_t>(i),
                                                  tokens.begin() + static_cast<ptrdiff_t>(i + kRun)))
                     .second;
  return static_cast<double>(repeated) / static_cast<double>(n);
}

std::vector<Prompt> read_prompts(const std::string& path) {
  const std::string text = read_text_file(path);
  std::vector<Prompt> prompts;
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string one = text.substr(at, end - at);
    at = end + 1;
    if (one.ends_with('\r')) one.pop_back();
    if (one.find_first_not_of(" \t") == std::string::npos) continue;
    if (!one.starts_with("{")) {
      prompts.push_back({one, ""});
      continue;
    }
    const std::string where = fmt::format("{}:{}", path, line);
    const Json e = parse_json(one, where);
    if (!e.contains("prompt") || !e["prompt"].is_string())
      fail(ExitCode::kBadInput, "{}: expected the key \"prompt\" with a text", where);
    prompts.push_back({e["prompt"].get<std::string>(),
                       e.contains("group") && e["group"].is_string() ? e["group"].get<std::string>() : ""});
  }
  if (prompts.empty())
    fail(ExitCode::kBadInput, "{}: no prompts in it (one a line, or JSON lines with \"prompt\")", path);
  return prompts;
}

std::vector<Generation> generate(std::span<const Prompt> prompts, const Model& model, uint32_t n_tokens, bool act_int8,
                                 ThreadPool& pool) {
  EngineOptions options;
  options.act_int8 = options.kv_f16 = act_int8;
  const auto engine = Engine::make(model, pool, options);
  const auto tokenizer = model.make_tokenizer();
  const size_t context = model.hparams().n_ctx > 0 ? model.hparams().n_ctx : kDefaultContext;
  if (n_tokens + 1 >= context)
    fail(ExitCode::kUsage, "{} tokens to generate leave no room for a prompt in the context of {}", n_tokens, context);
  const auto session = engine->new_session(context);
  std::vector<float> logits(engine->n_vocab());
  std::vector<Generation> all;
  Progress progress("generate", prompts.size(), "prompts");
  for (const Prompt& prompt : prompts) {
    throw_if_interrupted();
    std::vector<TokenId> tokens = tokenizer->encode(prompt.text);
    if (tokens.empty()) fail(ExitCode::kUsage, "the prompt '{}' has no tokens", prompt.text);
    if (tokens.size() > context - n_tokens)
      tokens.erase(tokens.begin() + 1,
                   tokens.begin() + 1 + static_cast<ptrdiff_t>(tokens.size() - (context - n_tokens)));
    session->truncate(0);
    engine->forward(*session, tokens, 1, logits);
    Generation g;
    while (g.tokens.size() < n_tokens) {
      const auto next = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      if (tokenizer->is_end_of_generation(next)) {
        g.ended = true;
        break;
      }
      g.tokens.push_back(next);
      if (g.tokens.size() < n_tokens) engine->forward(*session, std::span(&next, 1), 1, logits);
    }
    g.text = tokenizer->decode(g.tokens);
    g.repetition = repetition_share(g.tokens);
    all.push_back(std::move(g));
    progress.advance(1);
  }
  progress.finish();
  return all;
}

GenerationComparison compare_generations(std::span<const Generation> base, std::span<const Generation> candidate) {
  GenerationComparison c;
  std::vector<uint32_t> differences;
  for (size_t i = 0; i < base.size(); ++i) {
    const auto &a = base[i].tokens, &b = candidate[i].tokens;
    const auto at = static_cast<uint32_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
    const bool same = a == b && base[i].ended == candidate[i].ended;
    c.items.push_back({static_cast<uint32_t>(i), at, same});
    c.same_share += same ? 1 : 0;
    if (!same) differences.push_back(at);
  }
  if (!base.empty()) c.same_share /= static_cast<double>(base.size());
  std::sort(differences.begin(), differences.end());
  if (const size_t n = differences.size(); n > 0)
    c.median_first_difference = n % 2 ? differences[n / 2] : (differences[n / 2 - 1] + differences[n / 2]) / 2.0;
  if (total_tokens(base) > 0)
    c.length_ratio = static_cast<double>(total_tokens(candidate)) / static_cast<double>(total_tokens(base));
  c.base_repetition = mean_repetition(base);
  c.repetition = mean_repetition(candidate);
  c.base_unended = count_unended(base);
  c.unended = count_unended(candidate);
  return c;
}

Json to_json(const GenerationComparison& c, std::span<const Prompt> prompts, std::span<const Generation> base,
             std::span<const Generation> candidate) {
  Json json = {{"prompts", prompts.size()},
               {"same", c.same_share},
               {"first_difference", {{"median", c.median_first_difference}}},
               {"length_ratio", c.length_ratio},
               {"repetition", {{"base", c.base_repetition}, {"candidate", c.repetition}}},
               {"unended", {{"base", c.base_unended}, {"candidate", c.unended}}}};
  std::vector<GenerationComparison::Item> worst;
  for (const auto& item : c.items)
    if (!item.same) worst.push_back(item);
  std::stable_sort(worst.begin(), worst.end(),
                   [](const auto& a, const auto& b) { return a.first_difference < b.first_difference; });
  worst.resize(std::min(worst.size(), kWorstShown));
  json["worst"] = Json::array();
  for (const auto& item : worst)
    json["worst"].push_back({{"prompt", prompts[item.prompt].text},
                             {"group", prompts[item.prompt].group},
                             {"first_difference", item.first_difference},
                             {"base", base[item.prompt].text},
                             {"candidate", candidate[item.prompt].text}});
  return json;
}

}  // namespace tsubu
