#include "checkpoint/agreed_step.h"

#include <optional>

#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::checkpoint {

void run_agreed(comm::Communicator& communicator, const std::function<void()>& step) {
  std::optional<Error> error;
  try {
    step();
  } catch (const Error& caught) {
    error = caught;
  } catch (const std::exception& caught) {
    error = Error(ErrorKind::kCheckpoint, concat("Saving failed: ", caught.what()));
  }
  const int64_t first = comm::all_reduce_value(communicator, int64_t{error ? communicator.rank() : communicator.size()},
                                               comm::ReduceOp::kMin);
  if (first == communicator.size()) return;
  // every rank knows the cause, for rank 0 alone tells the user
  const std::string cause =
      comm::broadcast_bytes(communicator, error ? error->full_message() : std::string(), static_cast<int>(first));
  if (error) throw *error;
  fail(ErrorKind::kCheckpoint, "Rank ", first, " could not save its part of the checkpoint; nothing of it was kept. ",
       cause);
}

}  // namespace dsft::checkpoint
