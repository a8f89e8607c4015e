#include "comm/socket_mesh.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>

#include "base/error.h"

namespace dsft::comm {
namespace {

constexpr int kJoinMilliseconds = 120'000, kAnswerMilliseconds = 10'000;
constexpr char kWelcome = '!';
constexpr std::chrono::minutes kLongestSilence{60};  ///< a peer may read its rows, or evaluate

[[noreturn]] void fail_with_errno(const std::string& what) {
  fail(ErrorKind::kCommunication, what, ": ", std::strerror(errno));
}

using AddressList = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

AddressList resolve(const std::string& host, int port, int type) {
  addrinfo hints{};
  hints.ai_socktype = type;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); code != 0) {
    fail(ErrorKind::kCommunication, "the host ", host, " is not known here: ", ::gai_strerror(code));
  }
  return {found, ::freeaddrinfo};
}

/// The numeric address and the port of a socket's own end.
std::pair<std::string, int> own_end(int descriptor) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    fail_with_errno("a socket has no address");
  }
  return {host, std::atoi(port)};
}

class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {
    if (descriptor < 0) fail_with_errno("cannot open a socket");
  }
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

/// The address of this machine on its way to a host; nothing is sent.
std::string address_towards(const std::string& host, int port) {
  const AddressList list = resolve(host, port, SOCK_DGRAM);
  const Socket probe(::socket(list->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (::connect(probe.get(), list->ai_addr, list->ai_addrlen) != 0) fail_with_errno("there is no way to " + host);
  return own_end(probe.get()).first;
}

/// All addresses of this machine, the one on the way to a host first, and those that only the machine itself can reach
/// last: a host often knows its own name by such a one (127.0.1.1).
std::vector<std::string> own_addresses(const std::string& host, int port) {
  std::vector<std::string> addresses, loopback;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) fail_with_errno("this machine does not tell its addresses");
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(first, ::freeifaddrs);
  for (const ifaddrs* item = first; item != nullptr; item = item->ifa_next) {
    if (item->ifa_addr == nullptr || (item->ifa_flags & IFF_UP) == 0) continue;
    const int family = item->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    char text[NI_MAXHOST];
    const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (::getnameinfo(item->ifa_addr, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    if (std::strchr(text, '%') != nullptr) continue;  // of one link alone
    ((item->ifa_flags & IFF_LOOPBACK) != 0 ? loopback : addresses).emplace_back(text);
  }
  const std::string likely = address_towards(host, port);
  std::stable_partition(addresses.begin(), addresses.end(), [&](const std::string& item) { return item == likely; });
  addresses.insert(addresses.end(), loopback.begin(), loopback.end());
  return addresses;
}

/// Listens at a free port of all addresses, of both kinds where the machine has both.
int listen_everywhere(int backlog) {
  for (const int family : {AF_INET6, AF_INET}) {
    const int descriptor = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) continue;
    Socket socket(descriptor);
    const int no = 0;
    if (family == AF_INET6) ::setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    const socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    if (::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(descriptor, backlog) == 0)
      return socket.release();
  }
  fail_with_errno("cannot listen for the other ranks");
}

void wait_for(int descriptor, short events, const std::string& what, int milliseconds = kJoinMilliseconds) {
  pollfd polled{descriptor, events, 0};
  const int count = ::poll(&polled, 1, milliseconds);
  if (count == 0) errno = ETIMEDOUT;
  if (count <= 0) fail_with_errno(what);
}

void read_all(int descriptor, void* data, size_t size, const std::string& what) {
  for (char* next = static_cast<char*>(data); size > 0;) {
    wait_for(descriptor, POLLIN, what, kAnswerMilliseconds);
    const ssize_t count = ::recv(descriptor, next, size, 0);
    if (count == 0) errno = ECONNRESET;
    if (count <= 0) fail_with_errno(what);
    next += count;
    size -= static_cast<size_t>(count);
  }
}

void set_options(int descriptor) {
  const int yes = 1, idle_seconds = 30, between_seconds = 10, tries = 3;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  // a host that is gone without a word is noticed
  ::setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof idle_seconds);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &between_seconds, sizeof between_seconds);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

/// What a rank says first on a connection.
struct Greeting {
  std::array<char, 32> token;
  int32_t rank;
};

/// Connects to one address of a rank and greets it; throws where nobody answers who knows the token. Machines may have
/// equal addresses, such as those of containers' bridges.
int greet(const std::string& host, int port, const Greeting& greeting) {
  const AddressList list = resolve(host, port, SOCK_STREAM);
  Socket socket(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(socket.get(), list->ai_addr, list->ai_addrlen) != 0) {
    if (errno != EINPROGRESS) fail_with_errno(host);
    wait_for(socket.get(), POLLOUT, host, kAnswerMilliseconds);
    int fault = 0;
    socklen_t size = sizeof fault;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &fault, &size);
    errno = fault;
    if (fault != 0) fail_with_errno(host);
  }
  char answer = 0;
  if (::send(socket.get(), &greeting, sizeof greeting, MSG_NOSIGNAL) != sizeof greeting) fail_with_errno(host);
  read_all(socket.get(), &answer, 1, host);
  if (answer != kWelcome) fail(ErrorKind::kCommunication, host, ": another program answers");
  return socket.release();
}

/// What goes before the bytes of a transfer.
struct Header {
  uint64_t what;
  uint64_t size;
};

/// One direction of one peer, under way.
struct Stream {
  int peer;
  Header header{};
  char* data;
  size_t header_done = 0, done = 0;

  bool is_done() const { return header_done == sizeof header && done == header.size; }

  /// The bytes that are next.
  std::pair<char*, size_t> next() {
    if (header_done < sizeof header)
      return {reinterpret_cast<char*>(&header) + header_done, sizeof header - header_done};
    return {data + done, header.size - done};
  }
  void advance(size_t count) { (header_done < sizeof header ? header_done : done) += count; }
};

[[noreturn]] void fail_lost(int peer) {
  fail(ErrorKind::kCommunication, "rank ", peer,
       " has closed its connection: it has ended, was killed, or its host is ", "gone; its own output says more");
}

}  // namespace

SocketMesh::SocketMesh(int rank, int size, const std::string& known_host, int known_port, const Board& board)
    : rank_(rank), sockets_(static_cast<size_t>(size), -1) {
  try {
    connect_all(known_host, known_port, board);
  } catch (...) {
    for (int socket : sockets_)
      if (socket >= 0) ::close(socket);
    throw;
  }
  for (int socket : sockets_)
    if (socket >= 0) set_options(socket);
}

SocketMesh::~SocketMesh() {
  for (int socket : sockets_)
    if (socket >= 0) ::close(socket);
}

void SocketMesh::shut_down() noexcept {
  for (int socket : sockets_)
    if (socket >= 0) ::shutdown(socket, SHUT_RDWR);
}

// A rank connects to those before it, and is connected to by those after it.
void SocketMesh::connect_all(const std::string& known_host, int known_port, const Board& board) {
  const int size = static_cast<int>(sockets_.size());
  if (rank_ == 0) {
    unsigned char bytes[sizeof(Greeting::token) / 2];
    if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes) fail_with_errno("the system gives no random bytes");
    std::string token;
    for (unsigned char byte : bytes) (token += "0123456789abcdef"[byte >> 4]) += "0123456789abcdef"[byte & 15];
    board.set("token", token);
  }
  Greeting greeting{};
  const std::string token = board.get("token");
  std::memcpy(greeting.token.data(), token.data(), std::min(token.size(), greeting.token.size()));
  greeting.rank = rank_;

  const Socket listener(listen_everywhere(size));
  std::string own = std::to_string(own_end(listener.get()).second);
  for (const std::string& address : own_addresses(known_host, known_port)) own += " " + address;
  board.set(concat("rank", rank_), own);
  // all of them first: then each rank is about to connect, and answers soon
  std::vector<std::string> places;
  for (int peer = 0; peer < size; ++peer) places.push_back(board.get(concat("rank", peer)));

  for (int peer = 0; peer < rank_; ++peer) {
    std::istringstream words(places[static_cast<size_t>(peer)]);
    int port = 0;
    words >> port;
    std::string faults;
    for (std::string address; sockets_[static_cast<size_t>(peer)] < 0 && words >> address;) {
      try {
        sockets_[static_cast<size_t>(peer)] = greet(address, port, greeting);
      } catch (const Error& error) {
        faults += concat(faults.empty() ? "" : ", ", error.message());
      }
    }
    if (sockets_[static_cast<size_t>(peer)] < 0) {
      fail(ErrorKind::kCommunication, "rank ", rank_, " does not reach rank ", peer, " at port ", port,
           " of any of its addresses (", faults, "); the hosts of a job must reach each other by TCP");
    }
  }
  for (int missing = size - 1 - rank_; missing > 0;) {
    wait_for(listener.get(), POLLIN, concat(missing, " ranks have not joined"));
    Socket socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    Greeting theirs{};
    try {
      read_all(socket.get(), &theirs, sizeof theirs, "a rank that joins has fallen silent");
    } catch (const Error&) {
      continue;  // a stranger; a rank that died is missed above
    }
    const bool is_rank = theirs.token == greeting.token && theirs.rank > rank_ && theirs.rank < size;
    if (!is_rank || ::send(socket.get(), &kWelcome, 1, MSG_NOSIGNAL) != 1) continue;
    int& place = sockets_[static_cast<size_t>(theirs.rank)];
    if (place < 0)
      --missing;
    else
      ::close(place);  // it gave up too early, and came by another address
    place = socket.release();
  }
}

void SocketMesh::exchange(std::vector<Transfer> sends, std::vector<Transfer> receives, uint64_t what) {
  std::vector<Stream> out, in;
  for (const Transfer& item : sends) out.push_back({item.peer, {what, item.size}, static_cast<char*>(item.data)});
  std::map<int, size_t> wanted;
  for (const Transfer& item : receives) {
    in.push_back({item.peer, {}, static_cast<char*>(item.data)});
    wanted[item.peer] = item.size;
  }
  const auto check_header = [&](const Stream& stream) {
    if (stream.header_done == sizeof(Header) &&
        (stream.header.what != what || stream.header.size != wanted[stream.peer])) {
      fail(ErrorKind::kCommunication, "ranks call different collectives: rank ", rank_, " is in number ", what,
           " and wants ", wanted[stream.peer], " bytes, rank ", stream.peer, " sends ", stream.header.size,
           " of number ", stream.header.what);
    }
  };
  auto last_progress = std::chrono::steady_clock::now();
  const auto is_done = [](const Stream& stream) { return stream.is_done(); };
  while (true) {
    std::erase_if(out, is_done);
    std::erase_if(in, is_done);
    if (out.empty() && in.empty()) return;
    std::map<int, pollfd> polled;
    for (const Stream& stream : out) polled[stream.peer].events |= POLLOUT;
    for (const Stream& stream : in) polled[stream.peer].events |= POLLIN;
    std::vector<pollfd> list;
    std::map<int, size_t> place;
    for (auto& [peer, item] : polled) {
      item.fd = sockets_[static_cast<size_t>(peer)];
      place[peer] = list.size();
      list.push_back(item);
    }
    const int count = ::poll(list.data(), list.size(), 1000);
    if (count < 0 && errno != EINTR) fail_with_errno("cannot wait for the other ranks");
    if (count <= 0) {
      if (std::chrono::steady_clock::now() - last_progress > kLongestSilence) {
        fail(ErrorKind::kCommunication, "rank ", list.empty() ? -1 : polled.begin()->first, " has sent nothing for ",
             kLongestSilence.count(), " minutes");
      }
      continue;
    }
    last_progress = std::chrono::steady_clock::now();
    for (Stream& stream : out) {
      if ((list[place[stream.peer]].revents & (POLLOUT | POLLERR | POLLHUP)) == 0) continue;
      const auto [data, size] = stream.next();
      const ssize_t sent = ::send(list[place[stream.peer]].fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) fail_lost(stream.peer);
      if (sent > 0) stream.advance(static_cast<size_t>(sent));
    }
    for (Stream& stream : in) {
      if ((list[place[stream.peer]].revents & (POLLIN | POLLERR | POLLHUP)) == 0) continue;
      const auto [data, size] = stream.next();
      const ssize_t got = ::recv(list[place[stream.peer]].fd, data, size, MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) fail_lost(stream.peer);
      if (got > 0) {
        stream.advance(static_cast<size_t>(got));
        check_header(stream);
      }
    }
  }
}

}  // namespace dsft::comm
