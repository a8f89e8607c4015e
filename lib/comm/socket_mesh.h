#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dsft::comm {

/// Bytes that go to a rank, or are wanted from it.
struct Transfer {
  int peer;
  void* data;
  size_t size;
};

/// A TCP connection to every other rank.
class SocketMesh final {
 public:
  /// Where ranks write down the addresses at which they listen, and read the others': get() waits for its key.
  struct Board {
    std::function<void(const std::string& key, const std::string& value)> set;
    std::function<std::string(const std::string& key)> get;
  };

  /// Connects all ranks with each other. `known_host`: one that every rank can reach; of a rank's addresses the one on
  /// the way there is tried first. Collective.
  SocketMesh(int rank, int size, const std::string& known_host, int known_port, const Board& board);
  ~SocketMesh();
  SocketMesh(const SocketMesh&) = delete;
  SocketMesh& operator=(const SocketMesh&) = delete;

  /// Sends and receives at once, at most one transfer to and one from each peer; both sides say the same `what` (the
  /// number of the collective). A peer that is gone or in another exchange throws kCommunication. One thread at a time.
  void exchange(std::vector<Transfer> sends, std::vector<Transfer> receives, uint64_t what);

  /// Ends exchanges under way and to come, on the peers too. Any thread may call it.
  void shut_down() noexcept;

 private:
  void connect_all(const std::string& known_host, int known_port, const Board& board);

  int rank_;
  std::vector<int> sockets_;  ///< by rank; -1 for this one
};

}  // namespace dsft::comm
