// The program: words in, exit code out. Whatever goes wrong becomes one line on stderr that starts with "tsubu: ".
#include <malloc.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/dispatch.h"
#include "cli/output.h"

namespace {

int report(const char* message, tsubu::ExitCode code) {
  std::fprintf(stderr, "tsubu: %s\n", message);
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  using tsubu::ExitCode;
  try {
    // Large arrays are given back when they are freed: without a fixed threshold glibc raises it to the largest array freed so
    // far and keeps what lies between others.
    constexpr int kLargeArray = 1 << 20;
    mallopt(M_MMAP_THRESHOLD, kLargeArray);
    tsubu::install_interrupt_handler();
    const ExitCode code = tsubu::run_command_line(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
    tsubu::flush_out();
    return static_cast<int>(code);
  } catch (const tsubu::Error& e) {
    return report(e.what(), e.code());
  } catch (const std::bad_alloc&) {
    return report("out of memory: use fewer --threads, a smaller --ctx or a smaller model", ExitCode::kIo);
  } catch (const std::exception& e) {
    return report((std::string("unexpected error: ") + e.what()).c_str(), ExitCode::kIo);
  } catch (...) {
    return report("unexpected error of an unknown kind", ExitCode::kIo);
  }
}
