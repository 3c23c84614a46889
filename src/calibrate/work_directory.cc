#include "calibrate/work_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"

namespace tsubu {
namespace {

[[noreturn]] void fail_errno(const std::string& path, const char* what) {
  fail(ExitCode::kIo, "{}: cannot {}: {}", path, what, std::strerror(errno));
}

}  // namespace

RecordFile::RecordFile(const std::string& path, size_t floats_a_record)
    : path_(path), record_bytes_(floats_a_record * sizeof(float)) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_errno(path, "open");
}

RecordFile::~RecordFile() {
  if (fd_ >= 0) ::close(fd_);
}

void RecordFile::read(size_t record, std::span<float> to) const {
  auto* p = reinterpret_cast<char*>(to.data());
  for (size_t done = 0; done < record_bytes_;) {
    const ssize_t n = ::pread(fd_, p + done, record_bytes_ - done, static_cast<off_t>(record * record_bytes_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path_, "read");
    if (n == 0) fail(ExitCode::kIo, "{}: it ends before record {} (remove the folder to start anew)", path_, record);
    done += static_cast<size_t>(n);
  }
}

void RecordFile::write(size_t record, std::span<const float> from) {
  const auto* p = reinterpret_cast<const char*>(from.data());
  for (size_t done = 0; done < record_bytes_;) {
    const ssize_t n = ::pwrite(fd_, p + done, record_bytes_ - done, static_cast<off_t>(record * record_bytes_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path_, "write");
    done += static_cast<size_t>(n);
  }
}

void RecordFile::sync() {
  if (::fdatasync(fd_) != 0) fail_errno(path_, "sync");
}

WorkDirectory::WorkDirectory(const std::string& path, const std::string& key) : path_(path), key_(key) {
  const std::string state = path_ + "/state.json";
  if (!std::filesystem::exists(path_)) return;
  if (std::filesystem::exists(state)) {
    const Json json = parse_json(read_text_file(state), state);
    if (json.value("key", "") == key_) {
      found_ = {json.at("pass").get<size_t>(), json.at("chunk").get<size_t>()};
      sums_ = json.at("sums").get<size_t>();
      has_state_ = true;
      return;
    }
    note(fmt::format("{}: work of another model, text or options: starting anew", path_));
  }
  remove();
}

bool WorkDirectory::find(WorkState& state) const {
  if (has_state_) state = found_;
  return has_state_;
}

std::string WorkDirectory::sums_path() const { return path_ + "/sums-" + std::to_string(sums_); }
std::string WorkDirectory::next_sums_path() const { return path_ + "/sums-" + std::to_string(1 - sums_); }

void WorkDirectory::create() const {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error) fail(ExitCode::kIo, "{}: cannot make the folder: {}", path_, error.message());
}

void WorkDirectory::save(const WorkState& state) {
  const std::string before = sums_path();
  sums_ = 1 - sums_;
  const Json json = {{"key", key_}, {"pass", state.pass}, {"chunk", state.chunk}, {"sums", sums_}};
  write_text_file(path_ + "/state.json", dump_json(json));
  std::error_code ignored;
  std::filesystem::remove(before, ignored);
  has_state_ = true;
  found_ = state;
}

void WorkDirectory::remove() const {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace tsubu
