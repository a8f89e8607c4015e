#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace dsft::test {

/// While it lives, counts the bytes of CPU tensors of this process, made since then by any thread.
class CountedMemory final : public c10::Allocator {
 public:
  CountedMemory() : previous_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, kPriority); }
  ~CountedMemory() override { c10::SetCPUAllocator(previous_, kPriority); }
  CountedMemory(const CountedMemory&) = delete;
  CountedMemory& operator=(const CountedMemory&) = delete;

  int64_t peak_bytes() const { return counts().peak; }

  c10::DataPtr allocate(size_t num_bytes) override {
    auto* block = new Block{previous_->allocate(num_bytes), static_cast<int64_t>(num_bytes)};
    const int64_t now = counts().live += block->num_bytes;
    int64_t peak = counts().peak;
    while (now > peak && !counts().peak.compare_exchange_weak(peak, now)) {
    }
    return {block->memory.get(), block, &free_block, at::Device(at::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t count) const override {
    std::copy_n(static_cast<const char*>(from), count, static_cast<char*>(to));
  }

  void restart() { counts().peak = counts().live.load(); }
  int64_t live_bytes() const { return counts().live; }

 private:
  static constexpr uint8_t kPriority = 255;
  struct Block {
    c10::DataPtr memory;
    int64_t num_bytes;
  };
  struct Counts {
    std::atomic<int64_t> live{0}, peak{0};
  };
  // tensors may outlive the object that counted them
  static Counts& counts() {
    static Counts counts;
    return counts;
  }
  static void free_block(void* context) {
    auto* block = static_cast<Block*>(context);
    counts().live -= block->num_bytes;
    delete block;
  }

  c10::Allocator* previous_;
};

}  // namespace dsft::test
