#include "kernels/cuda_common.cuh"
#include "kernels/sample_tokens_cuda.h"

namespace dsft::kernels::cuda {
namespace {

// One block a row. Its warps take consecutive slices of the vocabulary, a chunk at a time, so that running sums go in
// the vocabulary's order.
constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
constexpr unsigned kAll = 0xffffffff;

// Sums of weights by digits of the score, in limbs that 32-bit atomics cannot overflow.
constexpr int kDigitBits = 11, kBins = 1 << kDigitBits, kBinsPerThread = kBins / kThreads;
constexpr int kLimbBits = 11, kLimbs = 4;
static_assert(cpu::kMostTokens << kLimbBits <= int64_t{1} << 32 && cpu::kWeightUnit < 0x1p44f);

struct Shared {
  uint32_t bins[kLimbs][kBins];
  int64_t sums[kWarps];
  float scores[kWarps];
  int indices[kWarps];
  uint32_t digit;
  int64_t rest;
};

template <typename T>
struct Row {
  static constexpr int kSize = Vector<T>::kSize, kChunk = kSize * kWarp;
  const T* logits;
  const uint32_t* seen;
  int vocab_size;
  bool is_aligned;
  float penalty, inverse_temperature;

  __device__ int num_chunks() const { return (vocab_size + kChunk - 1) / kChunk; }
  __device__ int first_chunk() const {
    const int each = (num_chunks() + kWarps - 1) / kWarps;
    return min(num_chunks(), static_cast<int>(threadIdx.x / kWarp) * each);
  }
  __device__ int last_chunk() const {
    const int each = (num_chunks() + kWarps - 1) / kWarps;
    return min(num_chunks(), static_cast<int>(threadIdx.x / kWarp + 1) * each);
  }
  __device__ int index(int chunk) const { return chunk * kChunk + static_cast<int>(threadIdx.x % kWarp) * kSize; }

  /// Scores of this lane's tokens in a chunk; -inf behind the end.
  __device__ void read(int chunk, float (&scores)[kSize]) const {
    const int first = index(chunk);
    if (is_aligned && first + kSize <= vocab_size) {
      const Vector<T> vector = load(logits + first);
#pragma unroll
      for (int i = 0; i < kSize; ++i) scores[i] = to_float(vector.values[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kSize; ++i) scores[i] = first + i < vocab_size ? to_float(logits[first + i]) : -INFINITY;
    }
    if (seen != nullptr) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        const int token = first + i;
        if (token < vocab_size && (seen[token / 32] >> (token % 32) & 1) != 0)
          scores[i] = scores[i] < 0 ? scores[i] * penalty : scores[i] / penalty;
      }
    }
#pragma unroll
    for (int i = 0; i < kSize; ++i) scores[i] *= inverse_temperature;
  }
};

// Keys that order as the scores do: what is no number comes last, and the two zeros are one.
__device__ inline uint32_t key_of(float score) {
  if (isnan(score)) return 0;
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ inline int64_t weight_of(float score, float highest) {
  const float weight = expf(score - highest) * cpu::kWeightUnit;
  return weight >= 1 ? static_cast<int64_t>(weight) : 0;
}

// The running sum of `value` over the block's threads in order, this thread's included; `total` of all.
__device__ inline int64_t running_sum(int64_t value, Shared& shared, int64_t& total) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int64_t other = __shfl_up_sync(kAll, value, offset);
    if (lane >= offset) value += other;
  }
  __syncthreads();  // the sums of the call before have been read
  if (lane == kWarp - 1) shared.sums[warp] = value;
  __syncthreads();
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) value += shared.sums[w];
    total += shared.sums[w];
  }
  return value;
}

struct Best {
  float score;
  int index;
};

// The highest score, and the first token that has it.
template <typename T>
__device__ Best find_best(const Row<T>& row, Shared& shared) {
  Best best{-INFINITY, 0};
  const auto take = [&](float score, int index) {
    if (score > best.score || (score == best.score && index < best.index)) best = {score, index};
  };
  for (int chunk = row.first_chunk(); chunk < row.last_chunk(); ++chunk) {
    float scores[Row<T>::kSize];
    row.read(chunk, scores);
#pragma unroll
    for (int i = 0; i < Row<T>::kSize; ++i) take(scores[i], row.index(chunk) + i);
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    take(__shfl_xor_sync(kAll, best.score, offset), __shfl_xor_sync(kAll, best.index, offset));
  if (threadIdx.x % kWarp == 0) {
    shared.scores[threadIdx.x / kWarp] = best.score;
    shared.indices[threadIdx.x / kWarp] = best.index;
  }
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) take(shared.scores[w], shared.indices[w]);
  __syncthreads();
  return best;
}

// The amount of a token in a selection: 1, or its weight.
template <bool kByWeight>
__device__ int64_t amount_of(float score, float highest) {
  return kByWeight ? weight_of(score, highest) : 1;
}

// The key of the token at which the sum of amounts, from the highest score down, reaches `wanted`; of tokens whose key
// is at least `floor`. Digit by digit: the digits before are known, and their successors are summed up by bins.
template <bool kByWeight, typename T>
__device__ uint32_t select_key(const Row<T>& row, float highest, int64_t wanted, uint32_t floor, Shared& shared) {
  constexpr int kShifts[] = {32 - kDigitBits, 32 - 2 * kDigitBits, 0};
  uint32_t known = 0, known_mask = 0;
  for (const int shift : kShifts) {
    for (int bin = threadIdx.x; bin < kLimbs * kBins; bin += kThreads) (&shared.bins[0][0])[bin] = 0;
    __syncthreads();
    const uint32_t digit_mask = shift == 0 ? (1u << (32 - 2 * kDigitBits)) - 1 : kBins - 1;
    for (int chunk = row.first_chunk(); chunk < row.last_chunk(); ++chunk) {
      float scores[Row<T>::kSize];
      row.read(chunk, scores);
#pragma unroll
      for (int i = 0; i < Row<T>::kSize; ++i) {
        const uint32_t key = key_of(scores[i]);
        if (key < floor || (key & known_mask) != known) continue;
        int64_t amount = amount_of<kByWeight>(scores[i], highest);
        const uint32_t digit = key >> shift & digit_mask;
        for (int limb = 0; amount != 0; ++limb, amount >>= kLimbBits)
          atomicAdd(&shared.bins[limb][digit], static_cast<uint32_t>(amount) & ((1u << kLimbBits) - 1));
      }
    }
    __syncthreads();
    // bins in falling order: thread 0 has the highest
    int64_t amounts[kBinsPerThread], sum = 0, total;
    const int first = kBins - 1 - static_cast<int>(threadIdx.x) * kBinsPerThread;
#pragma unroll
    for (int i = 0; i < kBinsPerThread; ++i) {
      amounts[i] = 0;
      for (int limb = 0; limb < kLimbs; ++limb)
        amounts[i] += static_cast<int64_t>(shared.bins[limb][first - i]) << (limb * kLimbBits);
      sum += amounts[i];
    }
    int64_t above = running_sum(sum, shared, total) - sum;
#pragma unroll
    for (int i = 0; i < kBinsPerThread; ++i) {
      if (above < wanted && wanted <= above + amounts[i]) {
        shared.digit = static_cast<uint32_t>(first - i);
        shared.rest = wanted - above;
      }
      above += amounts[i];
    }
    __syncthreads();
    known |= shared.digit << shift;
    known_mask |= digit_mask << shift;
    wanted = shared.rest;
    __syncthreads();
  }
  return known;
}

/// What stays of a row.
struct Kept {
  float highest;
  uint32_t lowest_key;
  int64_t least_weight;

  __device__ int64_t weight(float score) const {
    const int64_t weight = key_of(score) >= lowest_key ? weight_of(score, highest) : 0;
    return weight >= least_weight ? weight : 0;
  }
};

// The weight of this warp's slice, on each lane.
template <typename T>
__device__ int64_t slice_weight(const Row<T>& row, const Kept& kept) {
  int64_t sum = 0;
  for (int chunk = row.first_chunk(); chunk < row.last_chunk(); ++chunk) {
    float scores[Row<T>::kSize];
    row.read(chunk, scores);
#pragma unroll
    for (int i = 0; i < Row<T>::kSize; ++i) sum += kept.weight(scores[i]);
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAll, sum, offset);
  return sum;
}

template <typename T>
__device__ int64_t total_weight(const Row<T>& row, const Kept& kept, Shared& shared) {
  const int64_t sum = slice_weight(row, kept);
  int64_t total;
  running_sum(threadIdx.x % kWarp == 0 ? sum : 0, shared, total);
  return total;
}

// The token whose share of the running sum holds `point`: one warp has it in its slice, and looks through it.
template <typename T>
__device__ void find_token(const Row<T>& row, const Kept& kept, double uniform, Shared& shared, int* token) {
  const int64_t sum = slice_weight(row, kept);
  int64_t total;
  const int64_t end = running_sum(threadIdx.x % kWarp == 0 ? sum : 0, shared, total);  // lane 0: of its slice
  const int64_t point = min(static_cast<int64_t>(uniform * static_cast<double>(total)), total - 1);
  int64_t before = __shfl_sync(kAll, end, 0) - sum;
  if (point < before || point >= before + sum) return;
  for (int chunk = row.first_chunk(); chunk < row.last_chunk(); ++chunk) {
    float scores[Row<T>::kSize];
    row.read(chunk, scores);
    int64_t of_lane = 0;
#pragma unroll
    for (int i = 0; i < Row<T>::kSize; ++i) of_lane += kept.weight(scores[i]);
    int64_t running = of_lane;
#pragma unroll
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const int64_t other = __shfl_up_sync(kAll, running, offset);
      if (static_cast<int>(threadIdx.x % kWarp) >= offset) running += other;
    }
    const int64_t of_chunk = __shfl_sync(kAll, running, kWarp - 1);
    int64_t reached = before + running - of_lane;
    if (point >= reached && point < reached + of_lane) {
#pragma unroll
      for (int i = 0; i < Row<T>::kSize; ++i) {
        const int64_t weight = kept.weight(scores[i]);
        if (point >= reached && point < reached + weight) *token = row.index(chunk) + i;
        reached += weight;
      }
    }
    before += of_chunk;
    if (point < before) return;
  }
}

// ln of a token's share of softmax(logits / temperature), without the penalty. `highest`: of the row's scores.
template <typename T>
__device__ float log_prob_of(Row<T> row, int token, float highest, Shared& shared) {
  if (row.seen != nullptr) {
    row.seen = nullptr;
    highest = find_best(row, shared).score;
  }
  float sum = 0;
  for (int chunk = row.first_chunk(); chunk < row.last_chunk(); ++chunk) {
    float scores[Row<T>::kSize];
    row.read(chunk, scores);
#pragma unroll
    for (int i = 0; i < Row<T>::kSize; ++i) sum += expf(scores[i] - highest);
  }
  sum = group_sum<kThreads>(sum);
  return to_float(row.logits[token]) * row.inverse_temperature - (highest + logf(sum));
}

__device__ inline double uniform_of(const SampledRows& rows, int64_t row) {
  const auto stream = static_cast<uint64_t>(rows.streams[row]), index = static_cast<uint64_t>(rows.draws[row]);
  const uint64_t block = index >> 1;
  uint32_t words[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(stream),
                       static_cast<uint32_t>(stream >> 32)};
  philox(words, rows.key0, rows.key1);
  const uint64_t bits = (index & 1) != 0 ? uint64_t{words[2]} << 32 | words[3] : uint64_t{words[0]} << 32 | words[1];
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

template <typename T, bool kMakesLogProbs>
__global__ void __launch_bounds__(kThreads) sample(SampledRows rows, cpu::SamplingRule rule) {
  __shared__ Shared shared;
  __shared__ int token;
  const int64_t index = blockIdx.x, num_words = (rows.vocab_size + 31) / 32;
  uint32_t* seen = rows.seen == nullptr ? nullptr : reinterpret_cast<uint32_t*>(rows.seen) + index * num_words;
  const T* logits = static_cast<const T*>(rows.logits) + index * rows.vocab_size;
  const Row<T> row{.logits = logits,
                   .seen = seen,
                   .vocab_size = static_cast<int>(rows.vocab_size),
                   .is_aligned = reinterpret_cast<uintptr_t>(logits) % 16 == 0,
                   .penalty = rule.repetition_penalty,
                   .inverse_temperature = rule.inverse_temperature};
  const Best best = find_best(row, shared);
  if (threadIdx.x == 0) token = best.index;
  __syncthreads();
  if (!rule.is_greedy) {
    Kept kept{best.score, 0, 0};
    if (rule.top_k > 0) kept.lowest_key = select_key<false>(row, best.score, rule.top_k, 0, shared);
    if (rule.top_p < 1) {
      const int64_t total = total_weight(row, kept, shared);
      const int64_t enough = max(int64_t{1}, static_cast<int64_t>(ceil(rule.top_p * static_cast<double>(total))));
      kept.lowest_key = select_key<true>(row, best.score, enough, kept.lowest_key, shared);
    }
    if (rule.min_p > 0) kept.least_weight = static_cast<int64_t>(ceil(rule.min_p * cpu::kWeightUnit));
    find_token(row, kept, uniform_of(rows, index), shared, &token);
    __syncthreads();
  }
  float log_prob = 0;
  if constexpr (kMakesLogProbs) log_prob = log_prob_of(row, token, best.score, shared);
  if (threadIdx.x != 0) return;
  rows.tokens[index] = token;
  if constexpr (kMakesLogProbs) rows.log_probs[index] = log_prob;
  if (seen != nullptr) seen[token / 32] |= 1u << (token % 32);
}

}  // namespace

void sample_tokens(const SampledRows& rows, const cpu::SamplingRule& rule, FloatType type, Stream stream) {
  if (rows.rows == 0) return;
  visit(type, [&](auto element) {
    using T = decltype(element);
    const auto kernel = rows.log_probs != nullptr ? sample<T, true> : sample<T, false>;
    kernel<<<static_cast<unsigned>(rows.rows), kThreads, 0, stream_of(stream)>>>(rows, rule);
  });
  check_launch("sample_tokens");
}

}  // namespace dsft::kernels::cuda
