#include "launch/heart_monitor.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "watchdog/address.h"

namespace dsft::launch {
namespace {

using watchdog::Beat;
using watchdog::PhaseKind;

constexpr std::chrono::milliseconds kBetweenLooks{100};
constexpr std::chrono::seconds kOwnPause{
    2};  ///< since the last look: the launcher itself was stopped, and perhaps the job with it
constexpr size_t kLongestLine = 4096;

std::string make_token() {
  unsigned char bytes[16];
  if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes) {
    fail(ErrorKind::kInternal, "the system gives no random bytes: ", std::strerror(errno));
  }
  std::string token;
  for (unsigned char byte : bytes) {
    token += "0123456789abcdef"[byte >> 4];
    token += "0123456789abcdef"[byte & 15];
  }
  return token;
}

/// The numeric addresses of this machine by which another one may reach it.
std::vector<std::string> own_addresses() {
  ifaddrs* first = nullptr;
  std::vector<std::string> addresses;
  if (::getifaddrs(&first) != 0) return addresses;
  for (const ifaddrs* item = first; item != nullptr; item = item->ifa_next) {
    if (item->ifa_addr == nullptr || item->ifa_addr->sa_family != AF_INET || !(item->ifa_flags & IFF_UP)) continue;
    char text[NI_MAXHOST];
    if (::getnameinfo(item->ifa_addr, sizeof(sockaddr_in), text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0)
      continue;
    // the loopback address last: it serves the ranks of this machine where there is no network
    if (item->ifa_flags & IFF_LOOPBACK)
      addresses.push_back(text);
    else
      addresses.insert(addresses.begin(), text);
  }
  ::freeifaddrs(first);
  return addresses;
}

[[noreturn]] void fail_to_listen() {
  fail(ErrorKind::kInternal, "cannot listen to the ranks: ", std::strerror(errno));
}

std::string seconds_text(double seconds) {
  return concat(std::llround(seconds), " s");
}

/// "step 12: forward", and the collective there.
std::string where(const Beat& beat) {
  std::string text = beat.phase;
  if (!beat.call.empty()) {
    text += ", waiting in " + beat.call;
  } else if (!beat.last_call.empty()) {
    text += ", after " + beat.last_call;
  }
  return text;
}

/// The number in "all-reduce #123 of NAME".
long call_number(const std::string& call) {
  const size_t mark = call.find('#');
  return mark == std::string::npos ? -1 : std::strtol(call.c_str() + mark + 1, nullptr, 10);
}

/// Whether a rank's last collective came before another one's. Those of the host and NCCL's are counted apart.
bool is_behind(const Beat& a, const Beat& b) {
  const auto is_nccl = [](const Beat& beat) { return beat.last_call.starts_with("NCCL"); };
  return is_nccl(a) == is_nccl(b) && call_number(a.last_call) < call_number(b.last_call);
}

}  // namespace

HeartLimits::Seconds HeartLimits::of(const Beat& beat) const {
  if (beat.kind == PhaseKind::kStart) return start;
  if (beat.kind == PhaseKind::kLong) return std::max(phase, step.value_or(phase));
  if (step) return *step;
  if (beat.median_step_seconds <= 0) return first_step;
  return std::max(least_step, Seconds(median_steps * beat.median_step_seconds));
}

std::optional<Verdict> find_hang(const std::vector<Beat>& beats, const HeartLimits& limits) {
  const auto is_late = [&](const Beat& beat) { return beat.phase_seconds > limits.of(beat).count(); };
  if (std::none_of(beats.begin(), beats.end(), is_late)) return std::nullopt;
  const Beat* blamed = nullptr;
  for (const Beat& beat : beats) {
    if (!beat.call.empty()) continue;
    if (blamed == nullptr || (is_late(beat) && !is_late(*blamed)) ||
        (is_late(beat) == is_late(*blamed) && is_behind(beat, *blamed)))
      blamed = &beat;
  }
  if (blamed == nullptr) {
    blamed = &*std::min_element(beats.begin(), beats.end(),
                                [](const Beat& a, const Beat& b) { return call_number(a.call) < call_number(b.call); });
  }
  std::string reason =
      concat("rank ", blamed->rank, " hangs: ", where(*blamed), ", for ", seconds_text(blamed->phase_seconds),
             " (limit ", seconds_text(limits.of(*blamed).count()));
  reason += blamed->kind == PhaseKind::kStep ? "; --step-timeout sets another)" : ")";
  // what the others do, ranks that do the same together
  std::map<std::string, std::string> others;
  for (const Beat& beat : beats) {
    if (beat.rank == blamed->rank) continue;
    std::string& ranks = others[where(beat)];
    ranks += concat(ranks.empty() ? "" : ", ", beat.rank);
  }
  for (const auto& [place, ranks] : others) reason += concat("; rank ", ranks, ": ", place);
  return Verdict{blamed->rank, reason};
}

struct HeartMonitor::Connection {
  process::FileDescriptor socket;
  std::string pending = {};
  bool is_trusted = false;  ///< it has sent the token
  bool has_said_bye = false;
  int rank = -1;
  Clock::time_point last_heard = Clock::now();
};

HeartMonitor::HeartMonitor(int num_ranks, const std::filesystem::path& folder, bool has_remote_hosts,
                           const HeartLimits& limits)
    : num_ranks_(num_ranks), limits_(limits), token_(make_token()), wake_(process::open_pipe()) {
  if (has_remote_hosts)
    listen_on_port();
  else
    listen_on_path(folder);
  if (::listen(listener_.get(), SOMAXCONN) != 0) fail_to_listen();
  thread_ = std::thread([this] { watch(); });
}

HeartMonitor::~HeartMonitor() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  wake_.writer.close();
  thread_.join();
}

void HeartMonitor::listen_on_path(const std::filesystem::path& folder) {
  const std::string path = (folder / "watchdog").string();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    fail(ErrorKind::kUsage, "the path of the temporary folder, ", folder.string(),
         ", is too long for a socket; set TMPDIR to a shorter one");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  listener_ = process::FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail_to_listen();
  address_ = watchdog::to_text({.path = path, .hosts = {}, .port = 0, .token = token_});
}

void HeartMonitor::listen_on_port() {
  listener_ = process::FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = INADDR_ANY;
  socklen_t size = sizeof address;
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    fail_to_listen();
  }
  const std::vector<std::string> hosts = own_addresses();
  if (std::all_of(hosts.begin(), hosts.end(), [](const std::string& host) { return host.starts_with("127."); }))
    fail(ErrorKind::kCommunication, "this machine has no IPv4 address that the ranks of other hosts could reach");
  address_ = watchdog::to_text({.path = {}, .hosts = hosts, .port = ntohs(address.sin_port), .token = token_});
}

std::optional<Verdict> HeartMonitor::verdict() const {
  const std::lock_guard lock(mutex_);
  return verdict_;
}

std::optional<HeartMonitor::Loss> HeartMonitor::first_loss() const {
  const std::lock_guard lock(mutex_);
  return first_loss_;
}

std::string HeartMonitor::last_words(int rank) const {
  const std::lock_guard lock(mutex_);
  const auto found = beats_.find(rank);
  return found == beats_.end() ? "" : where(found->second);
}

void HeartMonitor::ask_to_stop() {
  tell(watchdog::kStop);
}

std::vector<int> HeartMonitor::end_ranks(std::chrono::milliseconds bound) {
  const Clock::time_point give_up_at = Clock::now() + bound;
  while (true) {
    tell(watchdog::kEnd);  // again: a rank may connect only now
    std::vector<int> left;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& connection : connections_)
        if (connection->rank >= 0) left.push_back(connection->rank);
    }
    if (left.empty() || Clock::now() >= give_up_at) return left;
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

void HeartMonitor::tell(std::string_view word) {
  const std::string line = concat(word, "\n");
  const std::lock_guard lock(mutex_);
  for (const auto& connection : connections_) {
    if (connection->is_trusted) ::send(connection->socket.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
}

void HeartMonitor::watch() {
  while (true) {
    std::vector<pollfd> polled{{wake_.reader.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const auto& connection : connections_) polled.push_back({connection->socket.get(), POLLIN, 0});
    ::poll(polled.data(), polled.size(), static_cast<int>(kBetweenLooks.count()));
    const std::lock_guard lock(mutex_);
    if (is_over_) return;
    for (size_t i = polled.size(); i-- > 2;) {
      if (polled[i].revents != 0) read(*connections_[i - 2]);
    }
    std::erase_if(connections_, [](const auto& connection) { return connection->socket.get() < 0; });
    if (polled[1].revents != 0) accept_all();
    judge();
  }
}

void HeartMonitor::accept_all() {
  while (true) {
    process::FileDescriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.get() < 0) return;
    // strangers cannot fill the memory
    if (connections_.size() >= 4 * static_cast<size_t>(num_ranks_) + 16) continue;
    connections_.push_back(std::unique_ptr<Connection>(new Connection{std::move(socket)}));
  }
}

void HeartMonitor::read(Connection& connection) {
  char buffer[4096];
  ssize_t count = 0;
  while ((count = ::recv(connection.socket.get(), buffer, sizeof buffer, MSG_DONTWAIT)) > 0) {
    connection.pending.append(buffer, static_cast<size_t>(count));
    for (size_t end = 0; (end = connection.pending.find('\n')) != std::string::npos;) {
      take_line(connection, std::string_view(connection.pending).substr(0, end));
      if (connection.socket.get() < 0) return;
      connection.pending.erase(0, end + 1);
    }
    if (connection.pending.size() > kLongestLine) return connection.socket.close();
  }
  const bool has_ended = count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
  if (!has_ended) return;
  connection.socket.close();
  if (connection.rank >= 0 && !connection.has_said_bye && !first_loss_) first_loss_ = {connection.rank, Clock::now()};
}

void HeartMonitor::take_line(Connection& connection, std::string_view line) {
  connection.last_heard = Clock::now();
  if (!connection.is_trusted) {
    connection.is_trusted = line == token_;
    if (!connection.is_trusted) connection.socket.close();
    return;
  }
  if (line == watchdog::kFarewell) connection.has_said_bye = true;
  const auto beat = watchdog::parse_beat(line);
  if (!beat || beat->rank >= num_ranks_) return;
  connection.rank = beat->rank;
  beats_[beat->rank] = *beat;
}

/// The beats of ranks that are there, their phases as old as they are now.
std::vector<Beat> HeartMonitor::current_beats() const {
  std::vector<Beat> beats;
  for (const auto& connection : connections_) {
    if (connection->rank < 0 || connection->has_said_bye) continue;
    beats.push_back(beats_.at(connection->rank));
    double& age = beats.back().phase_seconds;
    // a phase does not age while the whole job is stopped, as by `scontrol suspend`
    const auto began = connection->last_heard - std::chrono::duration_cast<Clock::duration>(HeartLimits::Seconds(age));
    age += HeartLimits::Seconds(Clock::now() - connection->last_heard).count();
    for (const Pause& pause : pauses_)
      if (began < pause.end) age -= HeartLimits::Seconds(pause.length).count();
  }
  std::sort(beats.begin(), beats.end(), [](const Beat& a, const Beat& b) { return a.rank < b.rank; });
  return beats;
}

void HeartMonitor::judge() {
  const Clock::time_point now = Clock::now();
  const Clock::duration since_look = now - std::exchange(last_look_, now);
  if (since_look > kOwnPause) {
    pauses_.push_back({now, since_look});
    begin_ += since_look;
    for (const auto& connection : connections_) connection->last_heard = now;
  }
  if (verdict_) return;
  for (const auto& connection : connections_) {
    if (connection->rank < 0 || connection->has_said_bye || now - connection->last_heard <= limits_.silence) continue;
    verdict_ = {connection->rank,
                concat("rank ", connection->rank, " is lost: it has not been heard of for ",
                       seconds_text(limits_.silence.count()), "; it was stopped, or its host is gone (",
                       where(beats_.at(connection->rank)), ")")};
    return;
  }
  if (now - begin_ > limits_.start) {
    for (int rank = 0; rank < num_ranks_; ++rank) {
      if (beats_.contains(rank)) continue;
      verdict_ = {rank, concat("rank ", rank, " has not begun within ", seconds_text(limits_.start.count()))};
      return;
    }
  }
  verdict_ = find_hang(current_beats(), limits_);
}

}  // namespace dsft::launch
