#include "comm/make_communicator.h"

#include "base/error.h"
#include "comm/mpi_communicator.h"
#include "comm/placement.h"
#include "comm/single_process_communicator.h"

namespace dsft::comm {

std::unique_ptr<Communicator> make_communicator(c10::Device device) {
  const Placement placement = read_placement();
  if (placement.size == 1) return make_single_process_communicator();
  if (device.is_cuda()) {
    fail(ErrorKind::kCommunication, "training over ", placement.size,
         " GPUs is not built yet: it comes with the NCCL communicator. Use `dsft launch --num-gpus 1`, or CPU ranks by "
         "`--num-procs N device=cpu`");
  }
  return make_mpi_communicator();
}

}  // namespace dsft::comm
