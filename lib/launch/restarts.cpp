#include "launch/restarts.h"

#include <map>

#include "base/error.h"

namespace dsft::launch {
namespace {

namespace fs = std::filesystem;

/// Whole checkpoints, each with the time of its manifest, which is written last.
std::map<fs::path, fs::file_time_type> find_checkpoints(const fs::path& output_dir) {
  std::map<fs::path, fs::file_time_type> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(output_dir, error)) {
    // one under work has another ending
    const std::string name = entry.path().filename();
    if (!name.starts_with("checkpoint-") || name.find('.') != std::string::npos) continue;
    const fs::path manifest = entry.path() / "dsft_state" / "manifest.json";
    const fs::file_time_type time = fs::last_write_time(manifest, error);
    if (!error) found[manifest] = time;
  }
  return found;
}

bool has_new(const std::map<fs::path, fs::file_time_type>& now, const std::map<fs::path, fs::file_time_type>& before) {
  for (const auto& [path, time] : now) {
    const auto known = before.find(path);
    if (known == before.end() || known->second != time) return true;
  }
  return false;
}

}  // namespace

bool may_be_restarted(int exit_code) {
  return exit_code == static_cast<int>(ErrorKind::kInternal) || exit_code == static_cast<int>(ErrorKind::kDevice) ||
         exit_code == static_cast<int>(ErrorKind::kCommunication);
}

LaunchResult supervise_with_restarts(const MakePlan& make_plan, SupervisorOptions options,
                                     const RestartOptions& restarts, process::SignalListener& signals) {
  const auto before = find_checkpoints(restarts.output_dir);
  bool resumes = false;
  for (int restart = 0;; ++restart) {
    LaunchResult result = supervise(make_plan(resumes), options, signals);
    const bool may_go_on = may_be_restarted(result.exit_code) && !result.was_asked_to_stop && !result.has_survivors;
    if (restart == restarts.max_restarts || !may_go_on) return result;
    resumes = resumes || has_new(find_checkpoints(restarts.output_dir), before);
    if (!result.tail.empty()) restarts.on_restart(result.tail.substr(0, result.tail.size() - 1));
    restarts.on_restart(
        concat(result.reason, ". Restart ", restart + 1, " of ", restarts.max_restarts,
               resumes ? ", from the newest whole checkpoint" : ", from the beginning: it had saved none"));
    options.appends_logs = true;
  }
}

}  // namespace dsft::launch
