// Progress of long work on stderr: a bar with rate and ETA on a terminal, a line now and then elsewhere, nothing with
// --quiet. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace tsubu {

void set_quiet(bool quiet);
bool is_quiet();

class Progress {
 public:
  // total and advance() are in `unit`s ("B" is shown as a size; anything else as a count).
  Progress(std::string label, uint64_t total, std::string unit);
  ~Progress();
  void advance(uint64_t amount, const std::string& now = "");
  void finish();
  double seconds() const;

 private:
  void draw(bool last);
  std::string label_, unit_, now_;
  uint64_t total_, done_ = 0;
  std::chrono::steady_clock::time_point start_, last_draw_;
  bool terminal_, finished_ = false;
  std::mutex mutex_;
};

// A note for the person at the terminal (stderr, one line, silenced by --quiet).
void note(const std::string& line);
// A warning: printed even with --quiet.
void warn(const std::string& line);

// Ctrl-C and SIGTERM: after install_interrupt_handler() they set a flag; long loops call throw_if_interrupted(), which
// throws Error(kInterrupted) so that destructors remove temporary files. A second signal ends the process at once.
void install_interrupt_handler();
bool interrupted();
// consequence: what the person should know besides ("no output was left behind").
void throw_if_interrupted(std::string_view consequence = "");

}  // namespace tsubu
