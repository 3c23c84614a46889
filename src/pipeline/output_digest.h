// The SHA-256 of a file while it is written: a digest is one chain, so it had better not wait for the last byte. The header
// comes first in the chain though it is known late (it holds the digest of the input).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/digest.h"

namespace tsubu {

class OutputDigest {
 public:
  // path: the file as it grows. header: called in the thread, waits for what it needs; the bytes at the file's start.
  // give_up: ends that waiting.
  OutputDigest(std::string path, std::function<std::string()> header, std::function<void()> give_up);
  ~OutputDigest();  // gives up what is not done
  OutputDigest(const OutputDigest&) = delete;
  OutputDigest& operator=(const OutputDigest&) = delete;

  // Bytes were added (of the header, whatever takes its room): so many, written or on their way.
  void advance(uint64_t size);
  // Whether it is so far behind that it should have a processor of its own.
  bool is_behind() const;
  // All bytes are in the file. The header and the digest; throws what the header threw, or Error(kIo).
  std::string header();
  FileDigest finish();

 private:
  void run(const std::function<std::string()>& header);

  std::string path_, header_;
  std::function<void()> give_up_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t written_ = 0, digested_ = 0;
  bool has_header_ = false, whole_ = false, stop_ = false;
  FileDigest result_;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace tsubu
