// tsubu tokenize: ids and pieces of a text.
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/file.h"
#include "checkpoint/gguf_vocabulary.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "text/utf8_stream.h"
#include "container/gguf.h"
#include "hub/model.h"
#include "text/tokenizer.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, text;
  bool from_stdin = false, no_special = false, parse_special = false;
};

// Rows of the embedding as config.json gives them; 0 when there is none.
size_t vocabulary_size(const std::string& directory) {
  const std::string path = (fs::path(directory) / "config.json").string();
  if (!fs::exists(path)) return 0;
  const Json config = parse_json(read_text_file(path, uint64_t{1} << 26), path);
  const auto size = config.find("vocab_size");
  return size != config.end() && size->is_number_unsigned() ? size->get<size_t>() : 0;
}

Vocabulary vocabulary_of(const std::string& path) {
  if (fs::is_directory(path)) return vocabulary_from_directory(path, vocabulary_size(path));
  return vocabulary_from_gguf(GgufFile::open(path).metadata());
}

std::string read_stdin() {
  std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  if (std::cin.bad()) fail(ExitCode::kIo, "standard input: cannot read");
  return text;
}

std::string hexadecimal(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

ExitCode run(const Options& o, const CommonOptions& common) {
  const auto tokenizer = Tokenizer::make(vocabulary_of(model_path(o.model)));
  const std::string text = o.from_stdin ? read_stdin() : o.text;
  const std::vector<TokenId> ids = tokenizer->encode(text, !o.no_special, o.parse_special);
  if (!common.json) {
    Table table({">id", "piece"});
    for (TokenId id : ids) table.add({fmt::format("{}", id), "'" + printable(tokenizer->piece(id)) + "'"});
    print_out(table.text());
    return ExitCode::kDone;
  }
  Json json;
  json["n_tokens"] = ids.size();
  json["tokens"] = Json::array();
  for (TokenId id : ids) {
    const std::string piece = tokenizer->piece(id);
    Json token{{"id", id}, {"piece", piece}};
    if (!utf8_is_valid(piece)) token["bytes"] = hexadecimal(piece);  // part of a character: the piece cannot show it
    json["tokens"].push_back(std::move(token));
  }
  print_json(json);
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file (a vocabulary alone is enough) or directory with tokenizer files")
      ->required()
      ->type_name(" ");
  auto* text = app.add_option("TEXT", o->text, "Text to tokenize")->type_name(" ");
  auto* from_stdin = app.add_flag("--stdin", o->from_stdin, "Read the text from standard input")->excludes(text);
  app.add_flag("--no-special", o->no_special, "Do not add BOS or EOS");
  app.add_flag("--parse-special", o->parse_special, "Control tokens written out in the text become their ids");
  return [o, text, from_stdin](const CommonOptions& common) {
    if (text->count() == 0 && from_stdin->count() == 0)
      fail(ExitCode::kUsage, "tokenize: no text: give TEXT or --stdin (see tsubu tokenize --help)");
    return run(*o, common);
  };
}

}  // namespace

extern const Command kTokenizeCommand;
const Command kTokenizeCommand = {"tokenize", "MODEL [TEXT]", "Ids and pieces of a text",
                                  "tsubu tokenize model.gguf \"Hello, world\"\ntsubu tokenize model.gguf --stdin < text.txt",
                                  declare};

}  // namespace tsubu
