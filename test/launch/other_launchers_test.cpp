#include "launch/other_launchers.h"

#include <map>
#include <string>

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;

namespace {

using Variables = std::map<std::string, std::string>;

void require_no_other_launcher(const Variables& variables) {
  launch::require_no_other_launcher([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

void require_refused(const Variables& variables, std::initializer_list<std::string> parts) {
  const std::string message =
      test::require_error(ErrorKind::kUsage, parts, [&] { require_no_other_launcher(variables); });
  CHECK_THAT(message, Catch::Matchers::ContainsSubstring("mpirun"));
}

}  // namespace

TEST_CASE("Processes that another launcher placed are refused, and the message says what to start", "[launch]") {
  require_refused({{"RANK", "0"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "0"}},
                  {"RANK=0 and WORLD_SIZE=4", "torchrun", "`dsft launch --num-procs 4 RECIPE`"});
  require_refused({{"SLURM_NTASKS", "2"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}},
                  {"SLURM_PROCID=1 and SLURM_STEP_NUM_TASKS=2", "srun", "--num-procs 2"});
  require_refused({{"PMI_SIZE", "3"}, {"PMI_RANK", "0"}}, {"PMI_SIZE=3", "--num-procs 3"});
  require_refused({{"PMIX_RANK", "1"}}, {"PMIX_RANK=1", "several processes", "--num-procs N"});
}

TEST_CASE("One process, Slurm's batch scripts and Open MPI's ranks are not another launcher's", "[launch]") {
  const Variables kFine[] = {
      {},
      {{"RANK", "0"}, {"WORLD_SIZE", "1"}},
      {{"WORLD_SIZE", "4"}},
      {{"RANK", "0"}, {"WORLD_SIZE", "many"}},
      {{"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "7"}, {"SLURM_PROCID", "0"}},
      {{"SLURM_NTASKS", "8"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}},
      {{"PMI_SIZE", "1"}, {"PMI_RANK", "0"}},
      {{"PMIX_RANK", "0"}},
      {{"OMPI_COMM_WORLD_SIZE", "2"},
       {"OMPI_COMM_WORLD_RANK", "1"},
       {"PMIX_RANK", "1"},
       {"WORLD_SIZE", "2"},
       {"RANK", "1"}},
      {{"OMPI_COMM_WORLD_SIZE", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "1"}},
  };
  for (const Variables& variables : kFine) CHECK_NOTHROW(require_no_other_launcher(variables));
}
