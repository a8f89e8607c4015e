#include "comm/mpi_exchange.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/error.h"

namespace dsft::comm {
namespace {

// MPI counts are ints: larger messages go in pieces of this many bytes
constexpr size_t kPieceBytes = size_t{1} << 28;

template <typename StartPiece>
void for_pieces(size_t size_bytes, StartPiece start_piece) {
  for (size_t offset = 0; offset < size_bytes; offset += kPieceBytes) {
    start_piece(offset, static_cast<int>(std::min(kPieceBytes, size_bytes - offset)));
  }
}

/// What a rank does between two looks for a message: at first it looks again, later it leaves the core to ranks that
/// compute.
class Patience {
 public:
  void pass() {
    ++num_passes_;
    if (num_passes_ > kSleepAfter)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    else if (num_passes_ > kYieldAfter)
      std::this_thread::yield();
  }

 private:
  static constexpr int64_t kYieldAfter = 100, kSleepAfter = 20'000;
  int64_t num_passes_ = 0;
};

}  // namespace

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(ErrorKind::kCommunication, call, " failed: ", text, ". Another rank has ended or cannot be reached");
}

void MpiTransfers::send(const void* data, size_t size_bytes, int peer, int tag, MPI_Comm communicator) {
  for_pieces(size_bytes, [&](size_t offset, int count) {
    const char* piece = static_cast<const char*>(data) + offset;
    MPI_Request request;
    check_mpi(MPI_Isend(piece, count, MPI_BYTE, peer, tag, communicator, &request), "MPI_Isend");
    requests_.push_back(request);
  });
}

void MpiTransfers::receive(void* data, size_t size_bytes, int peer, int tag, MPI_Comm communicator) {
  for_pieces(size_bytes, [&](size_t offset, int count) {
    MPI_Request request;
    check_mpi(MPI_Irecv(static_cast<char*>(data) + offset, count, MPI_BYTE, peer, tag, communicator, &request),
              "MPI_Irecv");
    requests_.push_back(request);
  });
}

bool MpiTransfers::test() {
  int is_done = 0;
  check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &is_done, MPI_STATUSES_IGNORE),
            "MPI_Testall");
  if (is_done != 0) requests_.clear();
  return is_done != 0;
}

void MpiProgress::add(Step step) {
  if (!step()) steps_.push_back(std::move(step));
}

void MpiProgress::advance() {
  steps_.remove_if([](const Step& step) { return step(); });
}

void MpiProgress::wait(const bool& is_done) {
  Patience patience;
  while (!is_done) {
    advance();
    patience.pass();
  }
}

void MpiProgress::wait(MPI_Request request) {
  Patience patience;
  for (int is_done = 0; is_done == 0; patience.pass()) {
    check_mpi(MPI_Test(&request, &is_done, MPI_STATUS_IGNORE), "MPI_Test");
    advance();
  }
}

void MpiProgress::drain() {
  for (Patience patience; !steps_.empty(); patience.pass()) advance();
}

}  // namespace dsft::comm
