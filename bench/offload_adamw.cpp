// AdamW of an offloaded optimizer beside what the machine's memory gives: GB/s of optim::adamw_update with a 16-bit
// copy, of 28 bytes a parameter for 16-bit gradients and 30 for fp32 ones, and of a STREAM triad (McCalpin) whose
// stores go past the caches. They run by turns, best of `rounds`, so that other work on the machine meets all alike.
//
// Usage: offload_adamw [MILLIONS_OF_PARAMETERS [ROUNDS]]; threads: OMP_NUM_THREADS. On demand:
// cmake --build build --target offload_adamw && OMP_NUM_THREADS=16 OMP_PROC_BIND=close build/bin/offload_adamw
#include <torch/types.h>

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <vector>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/stopwatch.h"
#include "device/host_buffer.h"
#include "optim/adamw.h"

namespace {

using dsft::optim::AdamWTensors;

constexpr int64_t kTriadBytes = 3 * sizeof(double);
constexpr int64_t kChunk = 1 << 14;  // as adamw_update divides the elements

// a = b + 3 c
void triad(double* a, const double* b, const double* c, int64_t num_chunks) {
  at::parallel_for(0, num_chunks, 1, [&](int64_t first, int64_t last) {
#ifdef __SSE2__
    const __m128d factor = _mm_set1_pd(3.0);
    for (int64_t i = first * kChunk; i < last * kChunk; i += 2)
      _mm_stream_pd(a + i, _mm_add_pd(_mm_load_pd(b + i), _mm_mul_pd(factor, _mm_load_pd(c + i))));
    _mm_sfence();
#else
    for (int64_t i = first * kChunk; i < last * kChunk; ++i) a[i] = b[i] + 3.0 * c[i];
#endif
  });
}

struct Candidate {
  std::string name;
  double bytes;  // that one run moves
  std::function<void()> run;
  double seconds = std::numeric_limits<double>::infinity();
};

at::Tensor zeros(int64_t numel, at::ScalarType type) {
  return dsft::device::HostBuffer(numel, type, dsft::device::HostPages::kPageable).tensor();
}

AdamWTensors tensors_of(int64_t numel, at::ScalarType gradient, at::ScalarType copy) {
  AdamWTensors tensors{.weight = zeros(numel, at::kFloat),
                       .gradient = zeros(numel, gradient),
                       .exp_avg = zeros(numel, at::kFloat),
                       .exp_avg_sq = zeros(numel, at::kFloat)};
  if (copy != at::kFloat) tensors.copy = zeros(numel, copy);
  tensors.weight.fill_(0.5);
  tensors.gradient.fill_(1e-3);
  return tensors;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t millions = argc > 1 ? std::atoll(argv[1]) : 64;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 15;
  if (millions < 1 || rounds < 1) {
    std::fprintf(stderr, "usage: offload_adamw [MILLIONS_OF_PARAMETERS [ROUNDS]], both at least 1\n");
    return 2;
  }
  const int64_t numel = millions << 20, num_doubles = numel / 2;
  std::array<at::Tensor, 3> arrays;
  for (at::Tensor& array : arrays) array = zeros(num_doubles, at::kDouble);
  std::vector<Candidate> candidates{{"triad", static_cast<double>(num_doubles * kTriadBytes), [&] {
                                       triad(arrays[0].data_ptr<double>(), arrays[1].const_data_ptr<double>(),
                                             arrays[2].const_data_ptr<double>(), num_doubles / kChunk);
                                     }}};
  const auto add = [&](const char* name, double bytes_each, at::ScalarType gradient, at::ScalarType copy) {
    candidates.push_back(
        {name, bytes_each * static_cast<double>(numel), [tensors = tensors_of(numel, gradient, copy)]() mutable {
           dsft::optim::adamw_update(tensors, {.weight_decay = 0.1},
                                     {.learning_rate = 1e-4, .gradient_factor = 0.7, .num_applied_updates = 5});
         }});
  };
  add("bf16 gradient, bf16 copy", 28, at::kBFloat16, at::kBFloat16);
  add("fp16 gradient, fp16 copy", 28, at::kHalf, at::kHalf);
  add("fp32 gradient, bf16 copy", 30, at::kFloat, at::kBFloat16);
  add("fp32 gradient, no copy", 28, at::kFloat, at::kFloat);
  for (int round = 0; round <= rounds; ++round)
    for (Candidate& candidate : candidates) {
      const dsft::Stopwatch watch;
      candidate.run();
      if (round > 0) candidate.seconds = std::min(candidate.seconds, watch.seconds());
    }
  const double of_triad = candidates[0].bytes / candidates[0].seconds;
  std::printf("%lld M parameters, %d threads, best of %d\n", static_cast<long long>(millions), at::get_num_threads(),
              rounds);
  std::printf("| | GB/s | of the triad | ms |\n|---|---|---|---|\n");
  for (const Candidate& candidate : candidates) {
    const double rate = candidate.bytes / candidate.seconds;
    std::printf("| %s | %.1f | %.0f %% | %.1f |\n", candidate.name.c_str(), rate / 1e9, 100 * rate / of_triad,
                1e3 * candidate.seconds);
  }
}
