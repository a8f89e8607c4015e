#include "checkpoint/writing_ranks.h"

#include "checkpoint/agreed_step.h"

namespace dsft::checkpoint {
namespace {

// A buffer that is whole while it lives; null: nothing.
class GatheredWhile {
 public:
  explicit GatheredWhile(zero::GatheredBuffer* buffer) : buffer_(buffer) {
    if (buffer_) buffer_->gather();
  }
  ~GatheredWhile() {
    if (buffer_) buffer_->release();
  }
  GatheredWhile(const GatheredWhile&) = delete;
  GatheredWhile& operator=(const GatheredWhile&) = delete;

 private:
  zero::GatheredBuffer* buffer_;
};

}  // namespace

void WritingRanks::write(const std::function<void()>& step) {
  run_agreed(communicator_, [&] {
    if (communicator_.rank() == 0) step();
  });
}

void WritingRanks::write_each(const NamedTensors& tensors, const std::function<void(const at::Tensor&)>& step) {
  for (size_t first = 0; first < tensors.size();) {
    zero::GatheredBuffer* buffer = buffer_of(tensors[first].second);
    size_t last = first + 1;
    while (last < tensors.size() && buffer_of(tensors[last].second) == buffer) ++last;
    const GatheredWhile gathered(buffer);
    write([&] {
      for (size_t i = first; i < last; ++i) step(tensors[i].second);
    });
    first = last;
  }
}

}  // namespace dsft::checkpoint
