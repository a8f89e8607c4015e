#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <memory>
#include <string>
#include <string_view>

namespace dsft::comm {

enum class ReduceOp { kSum, kMax, kMin };

/// An asynchronous collective. wait() must be called once; tensors must stay alive and untouched until then. On a GPU
/// the stream that is current then waits, and not the host.
class Work {
 public:
  virtual ~Work() = default;
  virtual void wait() = 0;
};

/// The Work of a call that was done when it returned.
class FinishedWork final : public Work {
 public:
  void wait() override {}
};

/// Collectives over the ranks of a job. Collective: all ranks call the same functions in the same order with equal
/// shapes and types. Tensors are contiguous, of fp32, fp64, bf16, fp16, int32, int64 or uint8, and on the device that
/// the communicator serves. Sums on the CPU are taken in the order of ranks, 16-bit floats in fp32 and rounded once, so
/// that they are the same on every rank and in every run; on GPUs in NCCL's order. Errors throw kCommunication.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// What the next collective is of ("model.layers.0.mlp.up_proj.weight"), for those who watch.
  virtual void name_next(std::string_view) {}

  /// In place; every rank gets the result, bitwise equal on all ranks.
  virtual std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) = 0;
  /// `output` [n] gets this rank's slice of the sum of all `input` [size * n].
  virtual std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) = 0;
  /// `output` [size * n] gets all `input` [n] in the order of ranks.
  virtual std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) = 0;
  /// Memory of `size` elements for the input of all-gathers that are done again and again. Ranks whose GPUs can read
  /// one another's memory read it there: such an all-gather is copies behind a collective of one word, and
  /// leaves the multiprocessors to what is computed meanwhile (NCCL_P2P_DISABLE=1 forbids it). So it must not be
  /// written while a gather of it may be under way on any rank: between the wait for one and the next write lies
  /// another collective. Is there as long as the communicator. Collective.
  virtual at::Tensor make_slice(int64_t size, const at::TensorOptions& options) { return at::empty({size}, options); }
  /// Whether ranks read the slices that were made so far where they lie. The same on all ranks.
  virtual bool reads_slices_in_place() const { return false; }
  /// In place from `root`.
  virtual std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) = 0;
  virtual void barrier() = 0;
  /// Throws where a collective failed after its wait() had returned, as on a GPU it may: what came of it is no result.
  virtual void check() {}

  /// Ranks with equal `color` form a new communicator, in the order of `key`. Collective. No collective of this
  /// communicator may be under way.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  /// Ends the peers' collectives with an error as soon as can be; not collective. With MPI this ends all processes of
  /// the job, the calling one included, with `exit_code`.
  virtual void abort(int exit_code, const std::string& reason) noexcept = 0;

  // Blocking forms.
  void all_reduce(at::Tensor& tensor, ReduceOp op = ReduceOp::kSum) { start_all_reduce(tensor, op)->wait(); }
  void reduce_scatter(at::Tensor& output, const at::Tensor& input) { start_reduce_scatter(output, input)->wait(); }
  void all_gather(at::Tensor& output, const at::Tensor& input) { start_all_gather(output, input)->wait(); }
  void broadcast(at::Tensor& tensor, int root = 0) { start_broadcast(tensor, root)->wait(); }
};

}  // namespace dsft::comm
