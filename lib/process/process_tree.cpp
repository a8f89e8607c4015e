#include "process/process_tree.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "base/parse_number.h"

namespace dsft::process {
namespace {

struct ProcessStat {
  ProcessId id;
  pid_t parent = 0;
  pid_t session = 0;
  char state = '?';
};

// /proc/PID/stat, proc(5): pid (name) state ppid pgrp session ... field 22 is the start time. A name may hold anything,
// so the fields are counted from the last parenthesis.
std::optional<ProcessStat> read_stat(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text, '\0');
  const size_t end_of_name = text.rfind(')');
  if (end_of_name == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(end_of_name + 1));
  ProcessStat stat;
  stat.id.pid = pid;
  std::string skipped;
  fields >> stat.state >> stat.parent >> skipped >> stat.session;
  for (int field = 7; field < 22; ++field) fields >> skipped;
  fields >> stat.id.start_time;
  return fields ? std::optional(stat) : std::nullopt;
}

std::vector<ProcessStat> read_all() {
  std::vector<ProcessStat> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    const auto pid = parse_number<pid_t>(name);
    if (!pid) continue;
    if (const auto stat = read_stat(*pid)) all.push_back(*stat);
  }
  return all;
}

}  // namespace

std::vector<ProcessId> find_descendants(pid_t root) {
  const std::vector<ProcessStat> all = read_all();
  std::vector<ProcessId> found;
  std::vector<pid_t> parents{root};
  for (size_t i = 0; i < parents.size(); ++i) {
    for (const ProcessStat& stat : all) {
      if (stat.parent != parents[i]) continue;
      found.push_back(stat.id);
      parents.push_back(stat.id.pid);
    }
  }
  return found;
}

std::vector<ProcessId> find_children(pid_t parent) {
  std::vector<ProcessId> found;
  for (const ProcessStat& stat : read_all()) {
    if (stat.parent == parent) found.push_back(stat.id);
  }
  return found;
}

std::vector<ProcessId> find_session(pid_t session) {
  std::vector<ProcessId> found;
  for (const ProcessStat& stat : read_all()) {
    if (stat.session == session && stat.state != 'Z') found.push_back(stat.id);
  }
  return found;
}

std::vector<ProcessId> find_with_variable(std::string_view name, std::string_view value) {
  std::vector<ProcessId> found;
  for (const ProcessStat& stat : read_all()) {
    if (environment_variable(stat.id, name) == value) found.push_back(stat.id);
  }
  return found;
}

int64_t count_machine_threads() {
  std::ifstream file("/proc/loadavg");
  double skipped = 0;
  int64_t num_running = 0, num_threads = 0;
  char slash = 0;
  file >> skipped >> skipped >> skipped >> num_running >> slash >> num_threads;
  return file ? num_threads : 0;
}

std::vector<ProcessId> find_stopped(pid_t root) {
  std::vector<ProcessId> candidates = find_descendants(root);
  candidates.push_back({root, 0});
  std::vector<ProcessId> stopped;
  for (const ProcessId& candidate : candidates) {
    const auto stat = read_stat(candidate.pid);
    if (stat && stat->state == 'T') stopped.push_back(stat->id);
  }
  return stopped;
}

std::optional<std::string> environment_variable(const ProcessId& process, std::string_view name) {
  std::ifstream file("/proc/" + std::to_string(process.pid) + "/environ");
  for (std::string entry; std::getline(file, entry, '\0');) {
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=')
      return entry.substr(name.size() + 1);
  }
  return std::nullopt;
}

bool is_running(const ProcessId& process) {
  const auto stat = read_stat(process.pid);
  return stat && stat->id == process && stat->state != 'Z' && stat->state != 'X';
}

void send_signal(const std::vector<ProcessId>& processes, int signal) {
  for (const ProcessId& process : processes) {
    if (is_running(process)) ::kill(process.pid, signal);
  }
}

}  // namespace dsft::process
