#include "comm/placement.h"

#include <map>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;

TEST_CASE("Placements are read from mpirun's, srun's and torchrun's variables", "[comm]") {
  using Variables = std::map<std::string, std::string>;
  const auto read = [](const Variables& variables) {
    return comm::read_placement([&](const char* name) -> const char* {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    });
  };
  const comm::Placement alone;
  CHECK(read({}) == alone);
  CHECK(read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "7"}}) == alone);
  CHECK(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}}) == alone);
  CHECK(read({{"OMPI_COMM_WORLD_SIZE", "4"},
              {"OMPI_COMM_WORLD_RANK", "3"},
              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
              {"WORLD_SIZE", "9"},
              {"RANK", "8"}}) == comm::Placement{3, 4, 1, 2, comm::Rendezvous::kMpi});
  Variables slurm = {{"SLURM_JOB_ID", "70001"}, {"SLURM_STEP_ID", "2"},       {"SLURM_STEP_NUM_TASKS", "4"},
                     {"SLURM_PROCID", "3"},     {"SLURM_LOCALID", "1"},       {"SLURM_STEP_NODELIST", "node[07-08]"},
                     {"SLURM_NTASKS", "4"},     {"SLURM_JOB_NODELIST", "x1"}, {"RANK", "1"}};
  const comm::Placement by_store{3, 4, 1, 1, comm::Rendezvous::kStore, "node07", 30'003, false, true};
  CHECK(read(slurm) == by_store);
  slurm["MASTER_ADDR"] = "10.1.1.1";
  slurm["MASTER_PORT"] = "4000";
  CHECK(read(slurm) == comm::Placement{3, 4, 1, 1, comm::Rendezvous::kStore, "10.1.1.1", 4000, false, true});
  slurm["PMIX_NAMESPACE"] = "slurm.pmix.70001.2";
  CHECK(read(slurm) == comm::Placement{3, 4, 1, 1, comm::Rendezvous::kMpi, "", 0, false, true});
  Variables torchrun = {{"RANK", "5"},
                        {"WORLD_SIZE", "8"},
                        {"LOCAL_RANK", "1"},
                        {"LOCAL_WORLD_SIZE", "4"},
                        {"MASTER_ADDR", "host1"},
                        {"MASTER_PORT", "29500"}};
  CHECK(read(torchrun) == comm::Placement{5, 8, 1, 4, comm::Rendezvous::kStore, "host1", 29500, false, true});
  Variables srun_torchrun = slurm;  // srun has started an agent on each host
  for (const auto& [name, value] : torchrun) srun_torchrun[name] = value;
  CHECK(read(srun_torchrun) == read(torchrun));
  // Slurm's --gpus-per-task and the like hide the other ranks' GPUs; mpirun hides none
  CHECK(read(slurm).gpu(/*num_visible=*/1) == 0);
  CHECK(read(slurm).gpu(4) == 1);
  CHECK(read(torchrun).gpu(1) == 0);
  CHECK(read({{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}})
            .gpu(1) == 1);
  torchrun["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  CHECK(read(torchrun).master_is_agent);
  torchrun.erase("MASTER_PORT");
  test::require_error(ErrorKind::kCommunication, {"torchrun", "MASTER_PORT is not set"}, [&] { read(torchrun); });
  test::require_error(ErrorKind::kCommunication, {"rank 8 of 8"}, [&] {
    read({{"OMPI_COMM_WORLD_SIZE", "8"}, {"OMPI_COMM_WORLD_RANK", "8"}});
  });
}

TEST_CASE("The first host of Slurm's lists", "[comm]") {
  CHECK(comm::first_host("node1") == "node1");
  CHECK(comm::first_host("a,b") == "a");
  CHECK(comm::first_host("node[03-05,9],other") == "node03");
  CHECK(comm::first_host("node[9],other") == "node9");
  CHECK(comm::first_host("r[2,4]-x,other") == "r2-x");
  CHECK(comm::first_host("login,node[03-05]") == "login");
}

TEST_CASE("A placement that is no number is one clear error", "[comm]") {
  if (comm::read_placement().size > 1) SKIP("runs outside mpirun");
  ::setenv("OMPI_COMM_WORLD_SIZE", "two", 1);
  test::require_error(ErrorKind::kCommunication, {"OMPI_COMM_WORLD_SIZE", "'two'"}, [] { comm::read_placement(); });
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
}
