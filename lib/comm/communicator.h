#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace dsft::comm {

enum class ReduceOp { kSum, kMax, kMin };

/// An asynchronous collective. wait() must be called once; tensors must stay alive and untouched until then.
class Work {
 public:
  virtual ~Work() = default;
  virtual void wait() = 0;
};

/// Collectives over the ranks of a job. Collective: all ranks call the same functions in the same order with equal shapes and types. Tensors are
/// contiguous and on the device that the communicator serves. Errors throw kCommunication.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// In place; every rank gets the result, bitwise equal on all ranks.
  virtual std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) = 0;
  /// `output` [n] gets this rank's slice of the sum of all `input` [size * n].
  virtual std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) = 0;
  /// `output` [size * n] gets all `input` [n] in the order of ranks.
  virtual std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) = 0;
  /// In place from `root`.
  virtual std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) = 0;
  virtual void barrier() = 0;

  /// Ranks with equal `color` form a new communicator, in the order of `key`.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  /// Ends the peers' collectives with an error as soon as can be; not collective.
  virtual void abort(const std::string& reason) noexcept = 0;

  // Blocking forms.
  void all_reduce(at::Tensor& tensor, ReduceOp op = ReduceOp::kSum) { start_all_reduce(tensor, op)->wait(); }
  void reduce_scatter(at::Tensor& output, const at::Tensor& input) { start_reduce_scatter(output, input)->wait(); }
  void all_gather(at::Tensor& output, const at::Tensor& input) { start_all_gather(output, input)->wait(); }
  void broadcast(at::Tensor& tensor, int root = 0) { start_broadcast(tensor, root)->wait(); }
};

/// Bytes of every rank, in the order of ranks (sizes may differ). Collective.
std::vector<std::string> all_gather_bytes(Communicator& communicator, const std::string& bytes);
/// `bytes` of root on every rank. Collective.
std::string broadcast_bytes(Communicator& communicator, const std::string& bytes, int root = 0);

/// One process: every collective is the identity.
std::unique_ptr<Communicator> make_single_process_communicator();

/// Runs `body(communicator)` on `num_ranks` threads with at::set_num_threads(1) each, CPU tensors only. The first exception is rethrown after all
/// threads have ended; a rank that throws aborts the others.
template <typename Body>
void run_thread_ranks(int num_ranks, Body body);

/// The communicator of this process: MPI where mpirun placed it (OMPI_COMM_WORLD_SIZE > 1), else the single one. MPI_Init is called here and MPI_Finalize
/// when the communicator dies.
std::unique_ptr<Communicator> make_communicator();

}  // namespace dsft::comm
