#include "comm/make_communicator.h"

#include "comm/mpi_communicator.h"
#include "comm/nccl_communicator.h"
#include "comm/placement.h"
#include "comm/single_process_communicator.h"

namespace dsft::comm {

std::unique_ptr<Communicator> make_communicator() {
  return read_placement().size == 1 ? make_single_process_communicator() : make_mpi_communicator();
}

std::unique_ptr<Communicator> make_device_communicator(c10::Device device, Communicator& control) {
  if (device.is_cpu() || control.size() == 1) return nullptr;
  return make_nccl_communicator(device, control);
}

}  // namespace dsft::comm
