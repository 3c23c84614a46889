// Opening GGUF files by path, split ones included: NAME-00001-of-000NN.gguf, each with split.no (from 0), split.count
// and split.tensors.count. Metadata are those of the first shard; tensors of all shards, in order.
#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "container/cursor.h"
#include "container/gguf.h"

namespace tsubu {
namespace {

constexpr std::string_view kExtension = ".gguf";

struct ShardName {
  std::string prefix;  // everything before "-00001-of-00003.gguf"
  uint32_t number = 0, count = 0;
};

std::optional<uint32_t> five_digits(std::string_view text) {
  uint32_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.size() != 5 || ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<ShardName> parse_shard_name(std::string_view path) {
  constexpr std::string_view kPattern = "-00001-of-00003.gguf";
  if (path.size() <= kPattern.size() || !path.ends_with(kExtension)) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kPattern.size());
  const auto number = five_digits(tail.substr(1, 5)), count = five_digits(tail.substr(10, 5));
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !number || !count) return std::nullopt;
  if (*number < 1 || *number > *count) return std::nullopt;
  return ShardName{std::string(path.substr(0, path.size() - kPattern.size())), *number, *count};
}

std::string shard_path(const ShardName& name, uint32_t number) {
  return fmt::format("{}-{:05}-of-{:05}{}", name.prefix, number, name.count, kExtension);
}

std::optional<uint64_t> split_value(const GgufFile& file, std::string_view key) {
  const GgufValue* value = file.metadata().find(key);
  if (!value) return std::nullopt;
  const auto number = value->as_uint();
  if (!number)
    fail(ExitCode::kBadInput, "{}: {}: expected an unsigned integer, found another value", file.paths()[0], key);
  return number;
}

// What a shard says of itself must agree with its name.
void check_shard(const GgufFile& shard, const ShardName& name, uint32_t number) {
  const std::string& path = shard.paths()[0];
  const auto no = split_value(shard, "split.no"), count = split_value(shard, "split.count");
  if (count != name.count)
    fail(ExitCode::kBadInput, "{}: split.count: expected {} as in the file's name, found {} (get all shards again)",
         path, name.count, count ? std::to_string(*count) : "none");
  if (no != number - 1)
    fail(ExitCode::kBadInput, "{}: split.no: expected {} as in the file's name, found {} (was it renamed?)", path,
         number - 1, no ? std::to_string(*no) : "none");
}

}  // namespace

GgufFile GgufFile::open(const std::string& path) {
  MappedFile mapped(path);
  GgufFile file = parse(mapped.bytes(), path);
  if (split_value(file, "split.count").value_or(1) > 1) {
    file.open_shards(path);
  } else {
    file.files_.push_back(std::move(mapped));
  }
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) file.metadata_.erase(key);
  return file;
}

void GgufFile::open_shards(const std::string& path) {
  const auto name = parse_shard_name(path);
  if (!name)
    fail(ExitCode::kBadInput, "{}: its metadata say that it is one of {} shards: expected a name such as "
         "NAME-00001-of-{:05}{}, found another (give all shards their original names)", path,
         *split_value(*this, "split.count"), *split_value(*this, "split.count"), kExtension);
  check_shard(*this, *name, name->number);
  const auto n_tensors = split_value(*this, "split.tensors.count");

  GgufFile merged;
  for (uint32_t number = 1; number <= name->count; ++number) {
    const std::string next = shard_path(*name, number);
    std::error_code ec;
    if (!std::filesystem::exists(next, ec))
      fail(ExitCode::kBadInput, "{}: shard {} of {} is missing: expected it beside {} (get it, then try again)", next,
           number, name->count, path);
    MappedFile mapped(next);
    GgufFile shard = parse(mapped.bytes(), next);
    check_shard(shard, *name, number);
    if (number == 1) {
      merged.version_ = shard.version_;
      merged.alignment_ = shard.alignment_;
      merged.metadata_ = std::move(shard.metadata_);
    }
    merged.file_bytes_ += shard.file_bytes_;
    merged.paths_.push_back(next);
    merged.files_.push_back(std::move(mapped));
    for (GgufTensor& tensor : shard.tensors_) {
      tensor.shard = number - 1;
      merged.add_tensor(std::move(tensor));
    }
  }
  if (n_tensors && *n_tensors != merged.tensors_.size())
    fail(ExitCode::kBadInput, "{}: split.tensors.count: expected {} tensors in all shards, found {} (get all shards "
         "again)", path, *n_tensors, merged.tensors_.size());
  *this = std::move(merged);
}

}  // namespace tsubu
