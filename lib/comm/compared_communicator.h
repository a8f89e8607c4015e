#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace dsft::comm {

/// Where the ranks of a communicator tell each other which collective each is about to call, on a way of their own. A
/// rank that ends with the object by itself tells that too, so that nobody waits for it.
class CallComparison final {
 public:
  /// `channel` has the ranks that compare, on CPU tensors, and serves nothing else.
  explicit CallComparison(std::unique_ptr<Communicator> channel) : channel_(std::move(channel)) {}
  ~CallComparison();
  CallComparison(const CallComparison&) = delete;
  CallComparison& operator=(const CallComparison&) = delete;

  /// Waits until every rank has told its call. Throws kCommunication where they differ: on the lowest rank that still
  /// calls with each rank's call, on the others a moment later with a word about that. Collective.
  void compare(const std::string& call);

  /// For the communicator that is split off alike. Collective.
  std::shared_ptr<CallComparison> split(int color, int key);

 private:
  std::vector<std::string> tell(const std::string& call);

  std::unique_ptr<Communicator> channel_;
  bool has_failed_ = false;
};

/// A comparison over the ranks of `control` where the environment of any asks for it (DSFT_DEBUG_COLLECTIVES=1); else,
/// and where there is one rank, null. Collective.
std::shared_ptr<CallComparison> make_call_comparison(Communicator& control);

/// The same communicator, whose ranks compare each collective before they call it: function, number, type, shape and
/// name (Communicator::name_next). Without a comparison it is given back as it is; null stays null. `kind` begins the
/// functions' names, such as "NCCL ". Ranks that call different communicators of one comparison are told too.
std::unique_ptr<Communicator> compare_calls(std::unique_ptr<Communicator> communicator,
                                            std::shared_ptr<CallComparison> comparison, const char* kind = "");

}  // namespace dsft::comm
