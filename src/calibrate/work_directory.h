// Work in progress of `calibrate`, in a folder beside the output:
//   state.json      which run it belongs to (key), how far it is (pass, chunk), which sums file belongs to that
//   sums-0, sums-1  Collector::save, in turns, so that one is always whole
//   stream-0, -1    f32 (chunks, context, stream width): what enters and what leaves the blocks of a pass, in turns
//   gram-<input>    f32 upper triangle of a finished pass
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tsubu {

struct WorkState {
  size_t pass = 0, chunk = 0;  // done: all passes before `pass`, all chunks before `chunk` of it
};

// A file of fixed-size records that are read and written in any order. Every failure is Error(kIo).
class RecordFile {
 public:
  RecordFile(const std::string& path, size_t floats_a_record);
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;
  void read(size_t record, std::span<float> to) const;
  void write(size_t record, std::span<const float> from);
  void sync();

 private:
  std::string path_;
  size_t record_bytes_;
  int fd_ = -1;
};

class WorkDirectory {
 public:
  // key names the run: model, text, options. A folder of another run is removed with a note.
  WorkDirectory(const std::string& path, const std::string& key);
  // What an earlier run of the same key left; false: nothing.
  bool find(WorkState& state) const;
  std::string sums_path() const;       // of the state found or saved last
  std::string next_sums_path() const;  // where the next state's sums go
  std::string stream_path(size_t pass) const { return path_ + "/stream-" + std::to_string(pass % 2); }
  std::string gram_path(size_t input) const { return path_ + "/gram-" + std::to_string(input); }
  void create() const;
  // Commits a state whose sums lie at next_sums_path().
  void save(const WorkState& state);
  void remove() const;
  const std::string& path() const { return path_; }

 private:
  std::string path_, key_;
  size_t sums_ = 0;  // of the state committed last
  bool has_state_ = false;
  WorkState found_;
};

}  // namespace tsubu
