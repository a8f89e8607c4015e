#include "launch/other_launchers.h"

#include <optional>
#include <string>

#include "base/error.h"
#include "base/parse_number.h"

namespace dsft::launch {
namespace {

/// Processes that were placed, and what tells it.
struct ForeignPlacement {
  std::string launcher;
  std::string found;
  int num_processes = 0;  ///< 0: not known
  bool can_be_joined = false;
};

/// The number that a variable holds; 0 where there is none.
int read_number(const GetVariable& get_variable, const char* name) {
  const char* text = get_variable(name);
  if (text == nullptr) return 0;
  return parse_number<int>(text).value_or(0);
}

std::optional<ForeignPlacement> find_foreign_placement(const GetVariable& get_variable) {
  const auto is_set = [&](const char* name) { return get_variable(name) != nullptr; };
  const auto assignment = [&](const char* name) { return concat(name, "=", get_variable(name)); };
  if (is_set("OMPI_COMM_WORLD_SIZE")) {
    const int size = read_number(get_variable, "OMPI_COMM_WORLD_SIZE");
    if (size <= 1) return std::nullopt;
    return ForeignPlacement{"Open MPI's mpirun", assignment("OMPI_COMM_WORLD_SIZE"), size, true};
  }
  const int world_size = read_number(get_variable, "WORLD_SIZE");
  if (world_size > 1 && is_set("RANK"))
    return ForeignPlacement{"torchrun or a launcher like it", assignment("RANK") + " and " + assignment("WORLD_SIZE"),
                            world_size, true};
  // a batch script has SLURM_NTASKS and SLURM_PROCID too, but is no step of several tasks
  const int num_tasks = read_number(get_variable, "SLURM_STEP_NUM_TASKS");
  if (num_tasks > 1 && is_set("SLURM_PROCID") && (is_set("SLURM_STEP_ID") || is_set("SLURM_STEPID")))
    return ForeignPlacement{"srun", assignment("SLURM_PROCID") + " and " + assignment("SLURM_STEP_NUM_TASKS"),
                            num_tasks, true};
  const int pmi_size = read_number(get_variable, "PMI_SIZE");
  if (pmi_size > 1) return ForeignPlacement{"another MPI's launcher", assignment("PMI_SIZE"), pmi_size};
  if (read_number(get_variable, "PMIX_RANK") > 0)
    return ForeignPlacement{"a PMIx launcher", assignment("PMIX_RANK"), 0};
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
