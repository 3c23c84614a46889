#include "base/progress.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "base/error.h"
#include "base/size.h"

namespace tsubu {
namespace {

std::atomic<bool> g_quiet{false};
volatile sig_atomic_t g_interrupted = 0;

void on_signal(int) {
  if (g_interrupted) _exit(static_cast<int>(ExitCode::kInterrupted));
  g_interrupted = 1;
}

}  // namespace

void set_quiet(bool quiet) { g_quiet = quiet; }
bool is_quiet() { return g_quiet; }

Progress::Progress(std::string label, uint64_t total, std::string unit)
    : label_(std::move(label)), unit_(std::move(unit)), total_(total), start_(std::chrono::steady_clock::now()),
      last_draw_(start_), terminal_(isatty(2) != 0) {}

Progress::~Progress() {
  // After an exception the line is left as it stands; finish() draws the last state.
  if (!finished_ && terminal_ && !is_quiet()) std::fputs("\n", stderr);
}

double Progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Progress::advance(uint64_t amount, const std::string& now) {
  std::lock_guard lock(mutex_);
  done_ += amount;
  if (!now.empty()) now_ = now;
  const auto t = std::chrono::steady_clock::now();
  const auto interval = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000);
  if (t - last_draw_ < interval) return;
  last_draw_ = t;
  draw(false);
}

void Progress::finish() {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  now_.clear();
  draw(true);
}

void Progress::draw(bool last) {
  if (is_quiet()) return;
  const double elapsed = seconds();
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  const double share = total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 0;
  const bool bytes = unit_ == "B";
  std::string line = label_ + " ";
  if (terminal_) {
    constexpr int kWidth = 24;
    const int full = std::min(kWidth, static_cast<int>(share * kWidth));
    line += "[" + std::string(full, '#') + std::string(kWidth - full, '.') + "] ";
  }
  line += bytes ? fmt::format("{}/{} {}/s", format_size(done_), format_size(total_),
                              format_size(static_cast<uint64_t>(rate)))
                : fmt::format("{}/{} {} {:.4g} {}/s", done_, total_, unit_, rate, unit_);
  if (last)
    line += " in " + format_duration(elapsed);
  else if (rate > 0 && total_ >= done_)
    line += " ETA " + format_duration(static_cast<double>(total_ - done_) / rate);
  if (!now_.empty()) line += "  " + now_;
  if (terminal_)
    std::fprintf(stderr, "\r\x1b[K%s%s", line.c_str(), last ? "\n" : "");
  else
    std::fprintf(stderr, "%s\n", line.c_str());
  std::fflush(stderr);
}

void note(const std::string& line) {
  if (!is_quiet()) std::fprintf(stderr, "%s\n", line.c_str());
}

void warn(const std::string& line) { std::fprintf(stderr, "warning: %s\n", line.c_str()); }

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A file-size limit is an error of write(), as a full disk is, not the end of the process with half a file left.
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, nullptr);
}

bool interrupted() { return g_interrupted != 0; }

void throw_if_interrupted(std::string_view consequence) {
  if (g_interrupted) fail(ExitCode::kInterrupted, "interrupted{}{}", consequence.empty() ? "" : "; ", consequence);
}

}  // namespace tsubu
