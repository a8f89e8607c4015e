#include "process/launcher.h"

#include "base/parse_number.h"

namespace dsft::process {

int read_number(const GetVariable& get_variable, const char* name) {
  const char* text = get_variable(name);
  return text == nullptr ? 0 : parse_number<int>(text).value_or(0);
}

Launcher find_launcher(const GetVariable& get_variable) {
  const auto is_set = [&](const char* name) { return get_variable(name) != nullptr; };
  if (is_set("OMPI_COMM_WORLD_SIZE")) return Launcher::kMpirun;
  // srun may have started torchrun once on each host: every rank there has the agent's SLURM_PROCID
  if (read_number(get_variable, "WORLD_SIZE") > 1 && is_set("RANK")) return Launcher::kTorchrun;
  // a batch script has SLURM_NTASKS and SLURM_PROCID too, but is no step of several tasks
  const bool is_step = is_set("SLURM_STEP_ID") || is_set("SLURM_STEPID");
  if (read_number(get_variable, "SLURM_STEP_NUM_TASKS") > 1 && is_set("SLURM_PROCID") && is_step)
    return Launcher::kSrun;
  return Launcher::kNone;
}

}  // namespace dsft::process
