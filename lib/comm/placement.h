#pragma once

namespace dsft::comm {

/// Where the launcher put this process, read from its environment before any communication starts.
struct Placement {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  ///< among the ranks of this machine: the index of its GPU
  int local_size = 1;
};

/// Open MPI's variables (OMPI_COMM_WORLD_*); one process where there are none. A variable that is not a number throws
/// kCommunication.
Placement read_placement();

}  // namespace dsft::comm
