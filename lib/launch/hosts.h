#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace dsft::launch {

/// A machine and its slots: the numbers of its GPUs, or places for CPU ranks.
struct Host {
  std::string name;
  std::vector<int> slots;

  bool operator==(const Host&) const = default;
};

/// Reads DeepSpeed's hostfile: lines "HOST slots=N", comments after #, empty lines. A malformed line, a host that comes
/// twice and a file without a slot throw kUsage, all faults together, with `name` and their lines.
std::vector<Host> parse_hostfile(std::string_view text, const std::string& name);

/// The same of a file.
std::vector<Host> read_hostfile(const std::filesystem::path& path);

/// Which slots to use, as DeepSpeed's --include and --exclude say it: HOST[:SLOT[,SLOT]...][@HOST...], a host alone
/// meaning all of its slots; one of the two, or neither. Hosts keep their order, slots are sorted and without
/// repetitions, hosts without a slot are dropped. What is malformed or not there, a host that is named twice, and a
/// choice that leaves nothing throw kUsage. `source` says where the hosts are from, for messages.
std::vector<Host> select_slots(const std::vector<Host>& hosts, const std::string& include, const std::string& exclude,
                               const std::string& source);

/// "node1 (slots 0 to 3), node2 (slots 0, 2)".
std::string describe_hosts(const std::vector<Host>& hosts);

int count_slots(const std::vector<Host>& hosts);

/// Whether this is a name of the machine `host_name` (gethostname) itself.
bool is_this_machine(std::string_view name, std::string_view host_name);

}  // namespace dsft::launch
