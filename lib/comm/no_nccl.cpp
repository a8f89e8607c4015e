// What answers where dsft is built without NCCL.
#include "base/error.h"
#include "comm/nccl_communicator.h"

namespace dsft::comm {

std::unique_ptr<Communicator> make_nccl_communicator(c10::Device, Communicator& control) {
  fail(ErrorKind::kCommunication, "training over ", control.size(),
       " GPUs needs NCCL, and this dsft was built without it (see `dsft env`); build it where LibTorch has CUDA and "
       "nccl.h is found, or use CPU ranks by `--num-procs N device=cpu`");
}

}  // namespace dsft::comm
