#include "comm/mpi_communicator.h"

#include <torch/types.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <vector>

#include "base/error.h"
#include "comm/mpi_exchange.h"
#include "comm/rank_order_reduction.h"

namespace dsft::comm {
namespace {

/// MPI from its start to its end, shared by the communicators of the process.
class MpiSession {
 public:
  MpiSession() {
    int is_initialized = 0;
    check_mpi(MPI_Initialized(&is_initialized), "MPI_Initialized");
    DSFT_CHECK(is_initialized == 0, "MPI was started before in this process");
    // one thread at a time: the caller's, or the autograd thread that runs its backward
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }

  /// While an exception unwinds, the peers wait in their collectives and MPI_Finalize would wait for them: the process
  /// then ends without it, and mpirun ends the others.
  ~MpiSession() {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }

  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  MpiProgress& progress() { return progress_; }

 private:
  MpiProgress progress_;
};

/// A collective under way, shared by its Work and the progress list.
struct Collective {
  at::Tensor target;
  at::Tensor source;
  std::vector<at::Tensor> contributions;  ///< by rank: slices of this rank's part
  MpiTransfers transfers;
  int phase = 1;
  bool is_done = false;
};

class MpiWork final : public Work {
 public:
  MpiWork(std::shared_ptr<MpiSession> session, std::shared_ptr<Collective> collective)
      : session_(std::move(session)), collective_(std::move(collective)) {}
  void wait() override { session_->progress().wait(collective_->is_done); }

 private:
  std::shared_ptr<MpiSession> session_;
  std::shared_ptr<Collective> collective_;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiSession> session, MPI_Comm communicator)
      : session_(std::move(session)), communicator_(communicator) {
    MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN);
    check_mpi(MPI_Comm_rank(communicator_, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(communicator_, &size_), "MPI_Comm_size");
  }

  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() > 0) return;
    try {
      session_->progress().drain();
    } catch (const Error&) {
      return;  // the peers are gone, and whoever waited for these collectives has been told
    }
    MPI_Comm_free(&communicator_);
  }

  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // Phase 1: each rank gets every rank's version of its own part. Then it reduces them. Phase 2: all parts go to all.
  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    check_cpu_tensor(tensor, "the tensor");
    auto collective = std::make_shared<Collective>();
    collective->target = tensor.detach().view(-1);
    const int64_t numel = tensor.numel();
    make_room(collective, part_of(numel, size_, rank_), tensor);
    gather_contributions(*collective, collective->target, [=, this](int rank) { return part_of(numel, size_, rank); });
    return start(collective, [=, this, tag = next_tag()](Collective& self) {
      if (self.phase == 1) {
        if (!self.transfers.test()) return false;
        at::Tensor own = slice(self.target, part_of(numel, size_, rank_));
        reduce_in_rank_order(own, self.contributions, op);
        self.contributions.clear();
        send_to_all(self, own, tag);
        for_peers([&](int peer) { receive(self, slice(self.target, part_of(numel, size_, peer)), peer, tag); });
        self.phase = 2;
      }
      return self.transfers.test();
    });
  }

  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    check_cpu_tensor(output, "the output");
    check_cpu_tensor(input, "the input");
    check_slices(input, output, size_);
    auto collective = std::make_shared<Collective>();
    collective->target = output.detach().view(-1);
    collective->source = input.detach().view(-1);
    const int64_t numel = output.numel();
    make_room(collective, {0, numel}, output);
    gather_contributions(*collective, collective->source, [numel](int rank) {
      return Part{rank * numel, (rank + 1) * numel};
    });
    return start(collective, [](Collective& self) {
      if (!self.transfers.test()) return false;
      reduce_in_rank_order(self.target, self.contributions, ReduceOp::kSum);
      self.contributions.clear();
      return true;
    });
  }

  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    check_cpu_tensor(output, "the output");
    check_cpu_tensor(input, "the input");
    check_slices(output, input, size_);
    auto collective = std::make_shared<Collective>();
    collective->target = output.detach().view(-1);
    collective->source = input.detach().view(-1);
    const int64_t numel = input.numel();
    const auto part = [&](int rank) { return slice(collective->target, {rank * numel, (rank + 1) * numel}); };
    const int tag = next_tag();
    part(rank_).copy_(collective->source);
    send_to_all(*collective, collective->source, tag);
    for_peers([&](int peer) { receive(*collective, part(peer), peer, tag); });
    return start(collective, [](Collective& self) { return self.transfers.test(); });
  }

  std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) override {
    check_cpu_tensor(tensor, "the tensor");
    DSFT_CHECK(root >= 0 && root < size_, "broadcast from rank ", root, " of ", size_);
    auto collective = std::make_shared<Collective>();
    collective->target = tensor.detach().view(-1);
    const int tag = next_tag();
    if (rank_ == root) {
      send_to_all(*collective, collective->target, tag);
    } else {
      receive(*collective, collective->target, root, tag);
    }
    return start(collective, [](Collective& self) { return self.transfers.test(); });
  }

  void barrier() override {
    MPI_Request request;
    check_mpi(MPI_Ibarrier(communicator_, &request), "MPI_Ibarrier");
    session_->progress().wait(request);
  }

  std::unique_ptr<Communicator> split(int color, int key) override {
    // MPI_Comm_split blocks without moving our collectives on: everyone's must have ended before anyone enters it
    session_->progress().drain();
    barrier();
    MPI_Comm child;
    check_mpi(MPI_Comm_split(communicator_, color, key, &child), "MPI_Comm_split");
    return std::make_unique<MpiCommunicator>(session_, child);
  }

  void abort(int exit_code, const std::string&) noexcept override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

 private:
  /// Waits for earlier collectives until there is memory for the peers' versions of this rank's part. All ranks start
  /// the same ones, so that those end.
  void make_room(const std::shared_ptr<Collective>& collective, Part own, const at::Tensor& like) {
    const int64_t num_bytes = (own.end - own.begin) * (size_ - 1) * static_cast<int64_t>(like.element_size());
    while (!contributing_.empty() && contributed_bytes_ + num_bytes > kMostContributedBytes) {
      if (const auto earliest = contributing_.front().collective.lock()) session_->progress().wait(earliest->is_done);
      contributed_bytes_ -= contributing_.front().num_bytes;
      contributing_.pop_front();
    }
    contributing_.push_back({collective, num_bytes});
    contributed_bytes_ += num_bytes;
  }

  /// Sends each peer its part of `flat` and receives the peers' versions of this rank's part.
  template <typename PartOf>
  void gather_contributions(Collective& collective, const at::Tensor& flat, PartOf part) {
    const int tag = next_tag();
    const Part own = part(rank_);
    collective.contributions.resize(static_cast<size_t>(size_));
    collective.contributions[rank_] = slice(flat, own);
    for_peers([&](int peer) {
      collective.contributions[peer] = at::empty({own.end - own.begin}, flat.options());
      receive(collective, collective.contributions[peer], peer, tag);
    });
    for_peers([&](int peer) { send(collective, slice(flat, part(peer)), peer, tag); });
  }

  template <typename Step>
  std::unique_ptr<Work> start(std::shared_ptr<Collective> collective, Step step) {
    session_->progress().advance();
    session_->progress().add([collective, step] { return collective->is_done = step(*collective); });
    return std::make_unique<MpiWork>(session_, std::move(collective));
  }

  // Starting with the next rank spreads the load where there are many.
  template <typename Body>
  void for_peers(Body body) {
    for (int i = 1; i < size_; ++i) body((rank_ + i) % size_);
  }

  void send(Collective& collective, const at::Tensor& part, int peer, int tag) {
    collective.transfers.send(part.const_data_ptr(), part.nbytes(), peer, tag, communicator_);
  }

  void receive(Collective& collective, const at::Tensor& part, int peer, int tag) {
    collective.transfers.receive(part.mutable_data_ptr(), part.nbytes(), peer, tag, communicator_);
  }

  void send_to_all(Collective& collective, const at::Tensor& part, int tag) {
    for_peers([&](int peer) { send(collective, part, peer, tag); });
  }

  /// All ranks start the same collectives in the same order, so that equal tags meet. 30000 of them may be under way.
  int next_tag() { return next_tag_ = (next_tag_ + 1) % 30000; }

  std::shared_ptr<MpiSession> session_;
  MPI_Comm communicator_;
  int rank_ = 0;
  int size_ = 1;
  int next_tag_ = 0;

  /// Collectives that hold contributions, or held them. Of one that needs more than the bound there is no other.
  struct Contributing {
    std::weak_ptr<Collective> collective;
    int64_t num_bytes;
  };
  static constexpr int64_t kMostContributedBytes = int64_t{32} << 20;
  std::deque<Contributing> contributing_;
  int64_t contributed_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator() {
  auto session = std::make_shared<MpiSession>();
  MPI_Comm world;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup");
  return std::make_unique<MpiCommunicator>(std::move(session), world);
}

}  // namespace dsft::comm
