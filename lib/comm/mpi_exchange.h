#pragma once

#define OMPI_SKIP_MPICXX 1  // the C++ bindings that MPI dropped would need a library of their own
#include <mpi.h>

#include <cstddef>
#include <functional>
#include <list>
#include <vector>

namespace dsft::comm {

/// Turns an MPI error code into an Error; `call` names the function.
void check_mpi(int code, const char* call);

/// A set of point-to-point transfers under way. All collectives are built of them: which bytes go where is then our
/// own choice, and so is the order in which sums are taken (MPI_Allreduce promises neither equality on all ranks nor
/// repeatability).
class MpiTransfers {
 public:
  /// Messages with equal communicator, peers and tag keep their order.
  void send(const void* data, size_t size_bytes, int peer, int tag, MPI_Comm communicator);
  void receive(void* data, size_t size_bytes, int peer, int tag, MPI_Comm communicator);
  /// Moves the transfers on; true when all have ended.
  bool test();

 private:
  std::vector<MPI_Request> requests_;
};

/// The collectives of this process that are under way. A collective of two phases needs the process to start its second
/// phase before its peers can end, so whoever waits for anything in MPI moves all of them on.
class MpiProgress {
 public:
  /// One collective: called until it returns true.
  using Step = std::function<bool()>;

  void add(Step step);
  /// Moves every collective on, once.
  void advance();
  /// Moves all on until a step has set `is_done`.
  void wait(const bool& is_done);
  /// Moves all on until `request` has ended.
  void wait(MPI_Request request);
  /// Moves all on until none is left.
  void drain();

 private:
  std::list<Step> steps_;
};

}  // namespace dsft::comm
