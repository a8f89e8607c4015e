#include "comm/make_communicator.h"

#include "comm/mpi_communicator.h"
#include "comm/nccl_communicator.h"
#include "comm/placement.h"
#include "comm/single_process_communicator.h"
#include "comm/store_communicator.h"

namespace dsft::comm {

std::unique_ptr<Communicator> make_communicator() {
  const Placement placement = read_placement();
  switch (placement.rendezvous) {
    case Rendezvous::kMpi:
      return make_mpi_communicator();
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
