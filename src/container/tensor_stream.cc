#include "container/tensor_stream.h"

#include "base/error.h"
#include "container/cursor.h"

namespace tsubu {

void TensorStream::begin(std::string_view header, std::vector<StreamedTensor> tensors, uint64_t alignment) {
  if (begun_) fail(ExitCode::kIo, "the data of this file have begun already");
  file_.write(header);
  tensors_ = std::move(tensors);
  alignment_ = alignment;
  begun_ = true;
  skip_complete();
}

void TensorStream::skip_complete() {
  while (next_ < tensors_.size() && written_of_next_ == tensors_[next_].bytes) {
    file_.pad_to(alignment_);
    ++next_;
    written_of_next_ = 0;
  }
}

void TensorStream::write(std::span<const std::byte> bytes) {
  if (!begun_) fail(ExitCode::kIo, "data before begin_data()");
  if (bytes.empty()) return;
  if (next_ == tensors_.size())
    fail(ExitCode::kIo, "expected no more data: all {} tensors are complete, found {} bytes", tensors_.size(),
         bytes.size());
  const StreamedTensor& tensor = tensors_[next_];
  if (bytes.size() > tensor.bytes - written_of_next_)
    fail(ExitCode::kIo, "tensor '{}': expected {} more bytes, found {}", printable(tensor.name),
         tensor.bytes - written_of_next_, bytes.size());
  file_.write(bytes);
  written_of_next_ += bytes.size();
  skip_complete();
}

void TensorStream::commit() {
  if (next_ < tensors_.size())
    fail(ExitCode::kIo, "tensor '{}': expected {} bytes before the end, found {}", printable(tensors_[next_].name),
         tensors_[next_].bytes, written_of_next_);
  file_.commit();
}

}  // namespace tsubu
