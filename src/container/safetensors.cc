// The reader of one safetensors file: u64 header length, JSON header, byte buffer.
#include "container/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "container/cursor.h"
#include "container/json_events.h"

namespace tsubu {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's limit

struct DtypeFacts {
  std::string_view name;
  uint32_t bits;
};
// Indexed by SafeDtype.
constexpr std::array<DtypeFacts, 22> kDtypes = {{
    {"BOOL", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8}, {"I8", 8}, {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},
    {"I32", 32}, {"U32", 32}, {"F32", 32}, {"C64", 64}, {"F64", 64}, {"I64", 64}, {"U64", 64},
}};

// One entry of the header as it is read.
struct Entry {
  std::string name;
  std::optional<SafeDtype> dtype;
  bool has_shape = false, has_offsets = false;
  std::vector<uint64_t> shape, offsets;
  uint64_t begin = 0, end = 0;
};

// Collects the entries of the header. Depth 1 holds tensor names and __metadata__, depth 2 their fields, depth 3 the
// numbers of shape and data_offsets. Unknown fields of a tensor are skipped, as the reference reader does.
class HeaderEvents final : public JsonEvents {
 public:
  explicit HeaderEvents(const std::string& path) : path_(path) {}
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  void key(const std::string& name, int depth) override {
    if (depth == 1) {
      in_metadata_ = name == "__metadata__";
      if (!in_metadata_) entries.emplace_back().name = name;
      if (!names_.insert(name).second) bad("every name once", "it twice");
    } else if (depth == 2 && in_metadata_) {
      if (metadata.contains(name)) bad(fmt::format("metadata key '{}' once", printable(name)), "it twice");
      metadata_key_ = name;
    } else if (depth == 2) {
      field_ = field_named(name);
      if (has_field(field_)) bad(fmt::format("its {} once", printable(name)), "it twice");
    }
  }
  void string(const std::string& value, int depth) override {
    if (depth == 2 && in_metadata_) {
      metadata[metadata_key_] = value;
    } else if (depth == 2 && field_ == Field::kDtype) {
      entries.back().dtype = find_safe_dtype(value);
      if (!entries.back().dtype) bad("a known dtype", "'" + printable(value) + "'");
    } else {
      refuse_here("a string", depth);
    }
  }
  void number(uint64_t value, int depth) override {
    if (depth == 3 && list_)
      list_->push_back(value);
    else
      refuse_here("a number", depth);
  }
  void other(std::string_view what, int depth) override {
    if (depth == 1 && in_metadata_ && what == "null") return;  // the same as none
    refuse_here(what, depth);
  }
  void open_object(int depth) override {
    if (depth > 1) refuse_here("an object", depth);
  }
  void close_object(int depth) override {
    if (depth != 1 || in_metadata_) return;
    Entry& e = entries.back();
    if (!e.dtype || !e.has_shape || !e.has_offsets)
      bad("dtype, shape and data_offsets",
          !e.dtype ? "no dtype" : !e.has_shape ? "no shape" : "no data_offsets");
    if (e.offsets.size() != 2 || e.offsets[0] > e.offsets[1])
      bad("data_offsets of two numbers, begin and end", fmt::format("[{}]", fmt::join(e.offsets, ", ")));
    e.begin = e.offsets[0];
    e.end = e.offsets[1];
  }
  void open_array(int depth) override {
    if (depth != 2 || in_metadata_ || (field_ != Field::kShape && field_ != Field::kOffsets))
      return refuse_here("an array", depth);
    Entry& e = entries.back();
    const bool is_shape = field_ == Field::kShape;
    (is_shape ? e.has_shape : e.has_offsets) = true;
    list_ = is_shape ? &e.shape : &e.offsets;
  }
  void close_array(int depth) override {
    if (depth == 2) list_ = nullptr;
  }

 private:
  enum class Field { kDtype, kShape, kOffsets, kUnknown };

  static Field field_named(std::string_view name) {
    return name == "dtype" ? Field::kDtype : name == "shape" ? Field::kShape : name == "data_offsets" ? Field::kOffsets
                                                                                                     : Field::kUnknown;
  }
  bool has_field(Field field) const {
    const Entry& e = entries.back();
    return (field == Field::kDtype && e.dtype) || (field == Field::kShape && e.has_shape) ||
           (field == Field::kOffsets && e.has_offsets);
  }
  [[noreturn]] void bad(std::string_view expected, std::string_view found) const {
    const std::string where = in_metadata_      ? "__metadata__"
                              : entries.empty() ? "header"
                                                : "tensor '" + printable(entries.back().name) + "'";
    fail(ExitCode::kBadInput, "{}@0x8: {}: expected {}, found {} (the file is damaged or no safetensors file)", path_,
         where, expected, found);
  }
  // A value where none of its kind belongs; inside an unknown field anything goes.
  void refuse_here(std::string_view what, int depth) const {
    if (depth >= 2 && in_metadata_) bad("strings only", what);
    if (depth == 0 || depth == 1) bad("an object", what);
    if (depth >= 2 && field_ == Field::kUnknown) return;
    bad(field_ == Field::kDtype ? "dtype to be a string" : "shape and data_offsets to be lists of unsigned integers",
        what);
  }

  const std::string& path_;
  std::set<std::string, std::less<>> names_;
  bool in_metadata_ = false;
  std::string metadata_key_;
  Field field_ = Field::kUnknown;
  std::vector<uint64_t>* list_ = nullptr;
};

}  // namespace

std::string_view safe_dtype_name(SafeDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].name; }
uint32_t safe_dtype_bits(SafeDtype dtype) { return kDtypes[static_cast<size_t>(dtype)].bits; }

std::optional<SafeDtype> find_safe_dtype(std::string_view name) {
  for (size_t i = 0; i < kDtypes.size(); ++i)
    if (kDtypes[i].name == name) return static_cast<SafeDtype>(i);
  return std::nullopt;
}

std::optional<uint64_t> safe_tensor_bytes(SafeDtype dtype, std::span<const uint64_t> shape) {
  // Zeros count as ones for the bound, so that no partial product of the shape overflows anywhere else either.
  uint64_t bound = 1, n = 1;
  for (const uint64_t d : shape) {
    const auto product = checked_mul(bound, std::max<uint64_t>(d, 1));
    if (!product || *product > uint64_t{std::numeric_limits<int64_t>::max()}) return std::nullopt;
    bound = *product;
    n *= d;
  }
  const auto bits = checked_mul(n, safe_dtype_bits(dtype));
  if (!bits || *bits % 8 != 0) return std::nullopt;
  return *bits / 8;
}

const SafeTensor* SafetensorsFile::find(std::string_view name) const {
  const auto entry = index_.find(name);
  return entry == index_.end() ? nullptr : &tensors_[entry->second];
}

void SafetensorsFile::add_tensor(SafeTensor tensor) {
  const auto [entry, is_new] = index_.try_emplace(tensor.name, tensors_.size());
  if (!is_new)
    fail(ExitCode::kBadInput, "{}: tensor '{}': expected it in one shard, found it in {} too", paths_[tensor.shard],
         printable(tensor.name), paths_[tensors_[entry->second].shard]);
  tensors_.push_back(std::move(tensor));
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, const std::string& path) {
  Cursor in(bytes, path);
  const auto header_bytes = in.read<uint64_t>("header length");
  if (header_bytes > kMaxHeaderBytes)
    in.bad_at(0, "header length: expected at most {}, found {} (the file is damaged or no safetensors file)",
              kMaxHeaderBytes, header_bytes);
  const std::string_view header = in.text(header_bytes, "header");
  if (!header.starts_with('{'))
    in.bad_at(8, "header: expected it to begin with '{{', found '{}' (this is no safetensors file)",
              printable(header.substr(0, 1)));
  HeaderEvents events(path);
  parse_json_events(header, path, 8, events);

  auto& entries = events.entries;
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  SafetensorsFile file;
  file.paths_ = {path};
  file.file_bytes_ = bytes.size();
  file.metadata_ = std::move(events.metadata);
  file.tensors_.reserve(entries.size());
  const std::span<const std::byte> buffer = bytes.subspan(in.offset());
  uint64_t end_of_previous = 0;
  for (Entry& e : entries) {
    const uint64_t begin = e.begin, end = e.end;
    const std::string name = printable(e.name);
    if (begin != end_of_previous)
      in.bad_at(8, "tensor '{}': expected its data to begin at {}, where the previous tensor's end, found {} ({})",
                name, end_of_previous, begin, begin > end_of_previous ? "a hole" : "an overlap");
    if (end > buffer.size())
      in.bad_at(8, "tensor '{}': expected data_offsets within the {} bytes after the header, found [{}, {}] (the file "
                "is truncated: get it again)", name, buffer.size(), begin, end);
    const auto size = safe_tensor_bytes(*e.dtype, e.shape);
    if (size != end - begin)
      in.bad_at(8, "tensor '{}': expected {} bytes for [{}] of {}, found {}", name,
                size ? std::to_string(*size) : "a whole number below 2^60 of", fmt::join(e.shape, ", "),
                safe_dtype_name(*e.dtype), end - begin);
    end_of_previous = end;
    file.add_tensor({std::move(e.name), *e.dtype, std::move(e.shape), buffer.subspan(begin, end - begin), 0});
  }
  if (end_of_previous != buffer.size())
    in.bad_at(in.offset() + end_of_previous, "data: expected the file to end here, after the last tensor, found {} "
              "more bytes", buffer.size() - end_of_previous);
  return file;
}

}  // namespace tsubu
