#pragma once

#include <string>

#include "process/launcher.h"

namespace dsft::comm {

/// How the ranks of a job find each other.
enum class Rendezvous {
  kAlone,  ///< there is one
  kMpi,    ///< MPI_Init: mpirun placed them, or a launcher that speaks PMIx
  kStore,  ///< a port of the first rank's host: srun or torchrun placed them
};

/// Where the launcher put this process, read from its environment before any communication starts.
struct Placement {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  ///< among the ranks of this machine
  int local_size = 1;
  Rendezvous rendezvous = Rendezvous::kAlone;
  std::string master_host = {};  ///< of kStore
  int master_port = 0;           ///< of kStore
  bool master_is_agent = false;  ///< of kStore: the launcher (torchrun) serves that port, not rank 0

  bool may_see_one_gpu = false;  ///< the launcher may show each rank its own GPU alone, as Slurm's --gpus-per-task

  /// The index of this rank's GPU among those that it sees.
  int gpu(int num_visible) const { return may_see_one_gpu && num_visible == 1 ? 0 : local_rank; }

  bool operator==(const Placement&) const = default;
};

using ReadVariable = process::GetVariable;

/// Open MPI's variables (OMPI_COMM_WORLD_*), else torchrun's (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT),
/// which srun may have started, else those of a step of srun with several tasks (SLURM_*; with PMIX_* MPI connects
/// them); one process where there are none. A variable that is missing or not a number throws kCommunication.
Placement read_placement(const ReadVariable& read_variable);
Placement read_placement();

/// The first host of Slurm's list: "node[03-05,9],other" gives "node03".
std::string first_host(const std::string& node_list);

}  // namespace dsft::comm
