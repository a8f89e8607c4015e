#include "comm/make_communicator.h"

#include "base/error.h"
#include "comm/mpi_communicator.h"
#include "comm/nccl_communicator.h"
#include "comm/placement.h"
#include "comm/single_process_communicator.h"
#include "comm/store_communicator.h"

namespace dsft::comm {
namespace {

/// Where a launcher and this MPI do not understand each other, MPI takes each process for the only one.
std::unique_ptr<Communicator> join_mpi(const Placement& placement) {
  auto communicator = make_mpi_communicator();
  if (communicator->size() == placement.size && communicator->rank() == placement.rank) return communicator;
  fail(ErrorKind::kCommunication, "the launcher placed this process as rank ", placement.rank, " of ", placement.size,
       ", but to MPI it is rank ", communicator->rank(), " of ", communicator->size(),
       ". Use the mpirun of the Open MPI that dsft was built with (`dsft env`); with Slurm `srun --mpi=none`, or a "
       "Slurm whose PMIx this Open MPI understands");
}

}  // namespace

std::unique_ptr<Communicator> make_communicator() {
  const Placement placement = read_placement();
  switch (placement.rendezvous) {
    case Rendezvous::kMpi:
      return join_mpi(placement);
    case Rendezvous::kStore:
      return make_store_communicator(placement);
    case Rendezvous::kAlone:
      break;
  }
  return make_single_process_communicator();
}

std::unique_ptr<Communicator> make_device_communicator(c10::Device device, Communicator& control) {
  if (device.is_cpu() || control.size() == 1) return nullptr;
  return make_nccl_communicator(device, control);
}

}  // namespace dsft::comm
