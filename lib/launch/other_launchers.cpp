#include "launch/other_launchers.h"

#include <optional>
#include <string>

#include "base/error.h"

namespace dsft::launch {
namespace {

/// Processes that were placed, and what tells it.
struct ForeignPlacement {
  std::string launcher;
  std::string found;
  int num_processes = 0;  ///< 0: not known
  bool can_be_joined = false;
};

std::optional<ForeignPlacement> find_foreign_placement(const GetVariable& get_variable) {
  using process::Launcher;
  const auto assignment = [&](const char* name) { return concat(name, "=", get_variable(name)); };
  const auto number = [&](const char* name) { return process::read_number(get_variable, name); };
  switch (process::find_launcher(get_variable)) {
    case Launcher::kMpirun:
      if (number("OMPI_COMM_WORLD_SIZE") <= 1) return std::nullopt;
      return ForeignPlacement{"Open MPI's mpirun", assignment("OMPI_COMM_WORLD_SIZE"), number("OMPI_COMM_WORLD_SIZE"),
                              true};
    case Launcher::kTorchrun:
      return ForeignPlacement{"torchrun or a launcher like it", assignment("RANK") + " and " + assignment("WORLD_SIZE"),
                              number("WORLD_SIZE"), true};
    case Launcher::kSrun:
      return ForeignPlacement{"srun", assignment("SLURM_PROCID") + " and " + assignment("SLURM_STEP_NUM_TASKS"),
                              number("SLURM_STEP_NUM_TASKS"), true};
    case Launcher::kNone:
      break;
  }
  if (number("PMI_SIZE") > 1)
    return ForeignPlacement{"another MPI's launcher", assignment("PMI_SIZE"), number("PMI_SIZE")};
  if (number("PMIX_RANK") > 0) return ForeignPlacement{"a PMIx launcher", assignment("PMIX_RANK"), 0};
  return std::nullopt;
}

}  // namespace

void require_no_other_launcher(const GetVariable& get_variable) {
  const auto placement = find_foreign_placement(get_variable);
  if (!placement) return;
  const std::string number = placement->num_processes > 0 ? std::to_string(placement->num_processes) : "several";
  fail(ErrorKind::kUsage, "the environment (", placement->found, ") says that ", placement->launcher, " has placed ",
       number,
       " processes, and each would start a job of its own in the same output_dir. Have it start `dsft train "
       "RECIPE`, which is one rank of a job, or run `dsft launch` once, outside of it; "
       "a process that is alone all the same needs these variables unset");
}

void require_joinable_launcher(const GetVariable& get_variable) {
  const auto placement = find_foreign_placement(get_variable);
  if (!placement || placement->can_be_joined) return;
  const std::string number = placement->num_processes > 0 ? std::to_string(placement->num_processes) : "N";
  fail(
      ErrorKind::kUsage, "the environment (", placement->found, ") says that ", placement->launcher, " has placed ",
      placement->num_processes > 0 ? number : "several",
      " processes; dsft joins those of Open MPI's mpirun, of srun and of torchrun alone, and each of these would train "
      "alone into the same output_dir. Start it once, by `dsft launch --num-procs ",
      number, " RECIPE`, or its ranks by Open MPI's `mpirun -n ", number,
      " dsft train RECIPE`; a process that is alone all the same needs these variables unset");
}

}  // namespace dsft::launch
