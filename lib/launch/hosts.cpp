#include "launch/hosts.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/parse_number.h"

namespace dsft::launch {
namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr int kMaxSlots = 4096;

std::string_view strip(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

/// Cuts a text at every `separator`; there is always a first piece.
std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> pieces;
  while (true) {
    const size_t end = text.find(separator);
    pieces.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

/// What mpirun and ssh take for a name, and for no option, port or list. A user's name may stand before it.
bool is_host_name(std::string_view name) {
  constexpr std::string_view kCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@";
  return !name.empty() && !name.starts_with('-') && name.find_first_not_of(kCharacters) == std::string_view::npos;
}

std::vector<int> first_slots(int count) {
  std::vector<int> slots(static_cast<size_t>(count));
  std::iota(slots.begin(), slots.end(), 0);
  return slots;
}

/// A line with a host; nothing where it is malformed. What follows the number, as max_slots of Open MPI's hostfiles,
/// has no meaning for DeepSpeed either.
std::optional<Host> parse_host(std::string_view line) {
  const size_t name_end = line.find_first_of(kBlanks);
  if (name_end == std::string_view::npos) return std::nullopt;
  std::string_view rest = strip(line.substr(name_end));
  constexpr std::string_view kSlots = "slots=";
  if (!rest.starts_with(kSlots)) return std::nullopt;
  rest.remove_prefix(kSlots.size());
  const auto number = parse_number<int>(rest.substr(0, rest.find_first_of(" \t\r\v\f#")));
  if (!number || *number < 0 || *number > kMaxSlots) return std::nullopt;
  return Host{std::string(line.substr(0, name_end)), first_slots(*number)};
}

const Host* find_host(const std::vector<Host>& hosts, std::string_view name) {
  const auto found = std::find_if(hosts.begin(), hosts.end(), [&](const Host& host) { return host.name == name; });
  return found == hosts.end() ? nullptr : &*found;
}

/// --include or --exclude.
struct Choice {
  const std::vector<Host>& hosts;
  const std::string& source;
  const char* option;
  const std::string& text;

  template <typename... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ErrorKind::kUsage, option, " ", text, ": ", parts...);
  }

  /// The slots that "HOST" or "HOST:0,1" names.
  Host parse(const std::string& entry) const {
    const std::vector<std::string> parts = split(entry, ':');
    if (parts.size() > 2) refuse("'", entry, "' has more than one ':'; write HOST:SLOT,SLOT@HOST");
    if (parts[0].empty()) refuse("a host's name is missing; write HOST:SLOT,SLOT@HOST");
    const Host* host = find_host(hosts, parts[0]);
    if (host == nullptr) refuse("host '", parts[0], "' is not in ", source, ", which has ", describe_hosts(hosts));
    if (parts.size() == 1) return *host;
    std::set<int> slots;
    for (const std::string& word : split(parts[1], ',')) {
      const auto slot = parse_number<int>(strip(word));
      if (!slot || *slot < 0) refuse("'", word, "' is no slot; write numbers, as in ", host->name, ":0,1");
      if (std::find(host->slots.begin(), host->slots.end(), *slot) == host->slots.end()) {
        refuse("host '", host->name, "' has no slot ", *slot, "; ", source, " has ", describe_hosts({*host}));
      }
      slots.insert(*slot);
    }
    return {host->name, {slots.begin(), slots.end()}};
  }

  std::vector<Host> parse_all() const {
    std::vector<Host> chosen;
    std::vector<std::string> entries = split(text, '@');
    for (size_t i = 0; i < entries.size(); ++i) {
      std::string entry = entries[i];
      // a user's name before a host's is part of it
      if (i + 1 < entries.size() && entry.find(':') == std::string::npos && find_host(hosts, entry) == nullptr) {
        const std::string with_user = concat(entry, "@", entries[i + 1]);
        if (find_host(hosts, split(with_user, ':')[0]) != nullptr) entry = with_user, ++i;
      }
      Host host = parse(entry);
      if (find_host(chosen, host.name) != nullptr) {
        refuse("host '", host.name, "' is named twice; write all of its slots at once, as in ", host.name, ":0,1");
      }
      chosen.push_back(std::move(host));
    }
    return chosen;
  }
};

std::vector<int> difference(std::vector<int> slots, const std::vector<int>& left_out) {
  std::erase_if(slots, [&](int slot) { return std::find(left_out.begin(), left_out.end(), slot) != left_out.end(); });
  return slots;
}

}  // namespace

std::vector<Host> parse_hostfile(std::string_view text, const std::string& name) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::vector<Host> hosts;
  std::string faults;
  int number = 0;
  for (const std::string& text_line : split(text, '\n')) {
    ++number;
    const std::string_view line = strip(text_line);
    if (line.empty() || line.starts_with('#')) continue;
    std::optional<Host> host = parse_host(line);
    const std::string place = concat(faults.empty() ? "" : "\n", name, ":", number, ": ");
    if (!host) {
      faults += concat(place, "'", line, "' is no line of a hostfile; write HOST slots=N");
    } else if (!is_host_name(host->name)) {
      faults += concat(place, "'", host->name, "' is no name of a host: names have letters, digits, '.', '-' and '_'");
    } else if (find_host(hosts, host->name) != nullptr) {
      faults += concat(place, "host '", host->name, "' is there twice; write one line with all of its slots");
    } else {
      hosts.push_back(std::move(*host));
    }
  }
  if (!faults.empty()) fail(ErrorKind::kUsage, faults);
  std::erase_if(hosts, [](const Host& host) { return host.slots.empty(); });
  if (hosts.empty()) fail(ErrorKind::kUsage, name, ": the hostfile names no slot; write lines HOST slots=N");
  return hosts;
}

std::vector<Host> read_hostfile(const std::filesystem::path& path) {
  std::error_code error;
  errno = 0;
  std::ifstream file(path);
  const int reason = std::filesystem::is_directory(path, error) ? EISDIR : errno;
  if (!file || reason == EISDIR)
    fail(ErrorKind::kUsage, "--hostfile ", path.string(), " cannot be read: ", std::strerror(reason));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return parse_hostfile(text, path.string());
}

std::vector<Host> select_slots(const std::vector<Host>& hosts, const std::string& include, const std::string& exclude,
                               const std::string& source) {
  if (!include.empty() && !exclude.empty()) {
    fail(ErrorKind::kUsage, "--include and --exclude contradict each other; write one");
  }
  if (include.empty() && exclude.empty()) return hosts;
  const bool takes = !include.empty();
  const Choice choice{hosts, source, takes ? "--include" : "--exclude", takes ? include : exclude};
  const std::vector<Host> named = choice.parse_all();
  std::vector<Host> selected;
  for (const Host& host : hosts) {
    const Host* match = find_host(named, host.name);
    if (takes && match != nullptr) selected.push_back(*match);
    if (!takes) selected.push_back({host.name, match ? difference(host.slots, match->slots) : host.slots});
  }
  std::erase_if(selected, [](const Host& host) { return host.slots.empty(); });
  if (selected.empty()) choice.refuse("no slot is left of ", describe_hosts(hosts));
  return selected;
}

std::string describe_hosts(const std::vector<Host>& hosts) {
  std::string text;
  for (const Host& host : hosts) {
    if (!text.empty()) text += ", ";
    text += host.name;
    const size_t count = host.slots.size();
    const bool is_run = count > 2 && host.slots.back() - host.slots.front() + 1 == static_cast<int>(count);
    if (is_run) {
      text += concat(" (slots ", host.slots.front(), " to ", host.slots.back(), ")");
      continue;
    }
    text += count == 1 ? " (slot" : " (slots";
    for (size_t i = 0; i < count; ++i) text += concat(i == 0 ? " " : ", ", host.slots[i]);
    text += ")";
  }
  return text;
}

int count_slots(const std::vector<Host>& hosts) {
  size_t count = 0;
  for (const Host& host : hosts) count += host.slots.size();
  return static_cast<int>(count);
}

bool is_this_machine(std::string_view name, std::string_view host_name) {
  if (name == "localhost" || name == "127.0.0.1" || name == "::1" || name == host_name) return true;
  // node7.cluster.example and node7
  const std::string_view short_name = name.substr(0, name.find('.'));
  return short_name == host_name.substr(0, host_name.find('.')) &&
         (short_name == name || host_name.find('.') == std::string_view::npos) &&
         short_name.find_first_not_of("0123456789") != std::string_view::npos;
}

}  // namespace dsft::launch
