// Stage 3's buffers: whole while they are used, and a slice for each rank else.
#include "zero/parameter_shards.h"

#include <torch/types.h>

#include <stdexcept>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"

using namespace dsft;
using zero::GatheredBuffer;

namespace {

// Catch2's assertions belong to the test's own thread.
void expect(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

bool has_memory(const at::Tensor& tensor) {
  return tensor.storage().unsafeGetStorageImpl()->data() != nullptr;
}

}  // namespace

TEST_CASE("A gathered buffer comes and goes under views that stay", "[zero]") {
  const int num_ranks = GENERATE(2, 3);
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  comm::run_thread_ranks(num_ranks, [&](comm::Communicator& communicator) {
    const at::Tensor values = at::arange(num_ranks * 8, at::kFloat).to(type), whole = values.clone();
    const at::Tensor view = whole.narrow(0, 3, 4).view({2, 2}), transposed = view.t();
    GatheredBuffer buffer(whole, communicator);
    expect(!has_memory(view) && !buffer.is_whole(), "a buffer begins as slices");
    expect(at::equal(buffer.own(), values.narrow(0, 8 * communicator.rank(), 8)), "a rank's slice");
    for (int round = 0; round < 2; ++round) {
      buffer.start_gather();
      buffer.gather();
      expect(at::equal(whole, values) && at::equal(transposed, values.narrow(0, 3, 4).view({2, 2}).t()), "gathered");
      buffer.release();
      expect(!has_memory(view), "released");
    }
    at::Tensor own = buffer.own();
    own.add_(1);
    buffer.start_gather();
    buffer.release();  // of what is under way
    buffer.gather();
    expect(at::equal(whole, values + 1), "what is written into slices");
  });
}

TEST_CASE("Blocks have their parameters from before they run until after, and the next one's", "[zero]") {
  comm::run_thread_ranks(2, [](comm::Communicator& communicator) {
    std::vector<at::Tensor> parameters;
    std::vector<zero::FrozenParameter> frozen;
    for (int64_t block = 0; block < 4; ++block)
      for (const int64_t numel : {3, 17}) {  // two of a block, in one buffer
        parameters.push_back(at::full({numel}, static_cast<double>(block)));
        frozen.push_back({parameters.back(), block});
      }
    zero::ParameterShards shards(4, frozen, {}, communicator);
    shards.share(3, 0);
    const auto present = [&] {
      std::string blocks;
      for (size_t block = 0; block < 4; ++block)
        if (has_memory(parameters[2 * block])) blocks += std::to_string(block);
      return blocks;
    };
    expect(present().empty(), "nothing at first");
    std::vector<std::string> seen;
    for (int64_t block = 0; block < 4; ++block) {
      shards.begin_block(block, block == 3 ? -1 : block + 1);
      expect(at::equal(parameters[2 * block + 1], at::full({17}, static_cast<double>(block))), "a block's values");
      seen.push_back(present());
      shards.end_block(block, block == 3);
    }
    for (int64_t block = 3; block >= 0; --block) {
      shards.begin_block(block, block - 1);
      seen.push_back(present());
      shards.end_block(block, false);
    }
    // the last block reads the first one's parameters too, and keeps all of them for its backward pass
    const std::vector<std::string> expected = {"01", "12", "023", "03", "023", "12", "01", "0"};
    expect(seen == expected, "what is there while each block runs");
    expect(present().empty(), "nothing at the end");
    {
      const zero::WholeParameters whole(&shards);
      expect(present() == "0123", "all of them");
      shards.begin_block(1, 2);
      shards.end_block(1, false);
      expect(present() == "0123", "all of them, whatever runs");
    }
    expect(present().empty(), "nothing after");
  });
}
