#include "comm/placement.h"

#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/parse_number.h"

namespace dsft::comm {
namespace {

constexpr int kFirstPort = 20'000, kNumPorts = 20'000;

/// The variables of one launcher.
struct Variables {
  const ReadVariable& read;
  const char* launcher;

  bool has(const char* name) const { return read(name) != nullptr; }

  std::string text(const char* name) const {
    const char* value = read(name);
    if (value == nullptr || *value == '\0') {
      fail(ErrorKind::kCommunication, launcher, " placed this process, but the environment variable ", name,
           " is not set: set it, or start through `dsft launch`");
    }
    return value;
  }

  int number(const char* name) const {
    const std::string digits = text(name);
    const auto value = parse_number<int>(digits);
    if (!value || *value < 0) {
      fail(ErrorKind::kCommunication, "the environment variable ", name, " is '", digits,
           "', not a number; it is set by ", launcher, ": unset it, or start through `dsft launch`");
    }
    return *value;
  }
  int number(const char* name, int fallback) const { return has(name) ? number(name) : fallback; }
};

Placement of_open_mpi(const Variables& variables) {
  return {.rank = variables.number("OMPI_COMM_WORLD_RANK", 0),
          .size = variables.number("OMPI_COMM_WORLD_SIZE"),
          .local_rank = variables.number("OMPI_COMM_WORLD_LOCAL_RANK", 0),
          .local_size = variables.number("OMPI_COMM_WORLD_LOCAL_SIZE", variables.number("OMPI_COMM_WORLD_SIZE")),
          .rendezvous = Rendezvous::kMpi};
}

Placement of_srun(const Variables& variables) {
  Placement placement{.rank = variables.number("SLURM_PROCID"),
                      .size = variables.number("SLURM_STEP_NUM_TASKS"),
                      .local_rank = variables.number("SLURM_LOCALID"),
                      .local_size = 1};  // srun binds its tasks itself
  placement.may_see_one_gpu = true;
  if (variables.has("PMIX_NAMESPACE")) {
    placement.rendezvous = Rendezvous::kMpi;
    return placement;
  }
  placement.rendezvous = Rendezvous::kStore;
  placement.master_host = variables.has("MASTER_ADDR")
                              ? variables.text("MASTER_ADDR")
                              : first_host(variables.text(variables.has("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST"
                                                                                               : "SLURM_JOB_NODELIST"));
  const int step = variables.number("SLURM_JOB_ID", 0) + variables.number("SLURM_STEP_ID", 0);
  placement.master_port = variables.number("MASTER_PORT", kFirstPort + step % kNumPorts);
  return placement;
}

Placement of_torchrun(const Variables& variables) {
  const char* uses_agent = variables.read("TORCHELASTIC_USE_AGENT_STORE");
  return {.rank = variables.number("RANK"),
          .size = variables.number("WORLD_SIZE"),
          .local_rank = variables.number("LOCAL_RANK"),
          .local_size = variables.number("LOCAL_WORLD_SIZE", 1),
          .rendezvous = Rendezvous::kStore,
          .master_host = variables.text("MASTER_ADDR"),
          .master_port = variables.number("MASTER_PORT"),
          .master_is_agent = uses_agent != nullptr && std::string_view(uses_agent) == "True",
          .may_see_one_gpu = true};
}

}  // namespace

Placement read_placement(const ReadVariable& read) {
  Placement placement;
  switch (process::find_launcher(read)) {
    case process::Launcher::kMpirun:
      placement = of_open_mpi({read, "mpirun"});
      break;
    case process::Launcher::kTorchrun:
      placement = of_torchrun({read, "torchrun or a launcher like it"});
      break;
    case process::Launcher::kSrun:
      placement = of_srun({read, "srun"});
      break;
    case process::Launcher::kNone:
      return {};
  }
  if (placement.size <= 1) return {};
  if (placement.rank >= placement.size) {
    fail(ErrorKind::kCommunication, "the environment says that this is rank ", placement.rank, " of ", placement.size,
         " ranks; start through `dsft launch`");
  }
  return placement;
}

Placement read_placement() {
  return read_placement([](const char* name) { return std::getenv(name); });
}

std::string first_host(const std::string& node_list) {
  const size_t bracket = node_list.find('['), comma = node_list.find(',');
  if (bracket == std::string::npos || comma < bracket) return node_list.substr(0, comma);
  const size_t end = node_list.find_first_of("-,]", bracket);
  const size_t close = node_list.find(']', bracket);
  if (end == std::string::npos || close == std::string::npos) return node_list.substr(0, bracket);
  const size_t rest = node_list.find(',', close);
  return node_list.substr(0, bracket) + node_list.substr(bracket + 1, end - bracket - 1) +
         node_list.substr(close + 1, rest == std::string::npos ? rest : rest - close - 1);
}

}  // namespace dsft::comm
