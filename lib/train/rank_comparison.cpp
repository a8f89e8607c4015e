#include "train/rank_comparison.h"

#include <string>
#include <vector>

#include "base/error.h"
#include "io/checksum.h"
#include "train/weights_digest.h"

namespace dsft::train {

void compare_trained_weights(const model::CausalLm& model, zero::ParameterShards* shards, const RunContext& context) {
  if (context.communicator.size() == 1) return;
  context.enter("comparing the ranks' weights");
  const std::vector<uint64_t> digests = gather_digests(context.communicator, digest_trained_weights(model, shards));
  std::string others;
  for (size_t rank = 1; rank < digests.size(); ++rank)
    if (digests[rank] != digests[0])
      others += concat(others.empty() ? "" : ", ", rank, ": ", io::to_hex(digests[rank]));
  if (others.empty())
    context.logger.info("ranks: the trained weights of all ", digests.size(), " are equal bit for bit (digest ",
                        io::to_hex(digests[0]), ")");
  else
    context.logger.warn("the ranks' trained weights are NOT equal: the digest of rank 0 is ", io::to_hex(digests[0]),
                        ", that of rank ", others,
                        ". A GPU or its memory may be faulty, or dsft is: compare the run with one of fewer ranks "
                        "before its weights are used.");
}

}  // namespace dsft::train
