#include "launch/other_launchers.h"

#include <map>
#include <string>

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;

namespace {

using Variables = std::map<std::string, std::string>;

launch::GetVariable reader_of(const Variables& variables) {
  return [variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

}  // namespace

TEST_CASE("A launcher inside of another one's processes is refused, and the message says what to start", "[launch]") {
  const auto require_refused = [](const Variables& variables, std::initializer_list<std::string> parts) {
    const std::string message =
        test::require_error(ErrorKind::kUsage, parts, [&] { launch::require_no_other_launcher(reader_of(variables)); });
    CHECK_THAT(message, Catch::Matchers::ContainsSubstring("`dsft train RECIPE`"));
  };
  require_refused({{"RANK", "0"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "0"}},
                  {"RANK=0 and WORLD_SIZE=4", "torchrun", "4 processes"});
  require_refused({{"SLURM_NTASKS", "2"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}},
                  {"SLURM_PROCID=1 and SLURM_STEP_NUM_TASKS=2", "srun", "2 processes"});
  require_refused({{"OMPI_COMM_WORLD_SIZE", "2"},
                   {"OMPI_COMM_WORLD_RANK", "1"},
                   {"PMIX_RANK", "1"},
                   {"WORLD_SIZE", "2"},
                   {"RANK", "1"}},
                  {"OMPI_COMM_WORLD_SIZE=2", "Open MPI's mpirun", "2 processes", "outside of it"});
  require_refused({{"PMI_SIZE", "3"}, {"PMI_RANK", "0"}}, {"PMI_SIZE=3", "3 processes"});
  require_refused({{"PMIX_RANK", "1"}}, {"PMIX_RANK=1", "several processes"});
}

TEST_CASE("Ranks of mpirun, srun and torchrun are joined, those of other MPIs refused", "[launch]") {
  CHECK_NOTHROW(launch::require_joinable_launcher(
      reader_of(Variables{{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"PMIX_RANK", "1"}})));
  CHECK_NOTHROW(launch::require_joinable_launcher(
      reader_of(Variables{{"OMPI_COMM_WORLD_SIZE", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}})));
  CHECK_NOTHROW(launch::require_joinable_launcher(reader_of(Variables{{"RANK", "0"}, {"WORLD_SIZE", "4"}})));
  CHECK_NOTHROW(launch::require_joinable_launcher(
      reader_of(Variables{{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}})));
  test::require_error(ErrorKind::kUsage, {"PMI_SIZE=3", "--num-procs 3", "mpirun"}, [] {
    launch::require_joinable_launcher(reader_of(Variables{{"PMI_SIZE", "3"}, {"PMI_RANK", "0"}}));
  });
  test::require_error(ErrorKind::kUsage, {"PMIX_RANK=1", "several processes", "--num-procs N"}, [] {
    launch::require_joinable_launcher(reader_of(Variables{{"PMIX_RANK", "1"}}));
  });
}

TEST_CASE("One process alone and Slurm's batch scripts are not another launcher's", "[launch]") {
  const Variables kFine[] = {
      {},
      {{"RANK", "0"}, {"WORLD_SIZE", "1"}},
      {{"WORLD_SIZE", "4"}},
      {{"RANK", "0"}, {"WORLD_SIZE", "many"}},
      {{"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "7"}, {"SLURM_PROCID", "0"}},
      {{"SLURM_NTASKS", "8"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}},
      {{"PMI_SIZE", "1"}, {"PMI_RANK", "0"}},
      {{"PMIX_RANK", "0"}},
      {{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}, {"PMIX_RANK", "0"}},
  };
  for (const Variables& variables : kFine) CHECK_NOTHROW(launch::require_no_other_launcher(reader_of(variables)));
}
