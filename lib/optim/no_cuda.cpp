// What answers where dsft is built without CUDA: no tensor is on such a device then.
#include "base/error.h"
#include "optim/adamw_cuda.h"

namespace dsft::optim::cuda {

void adamw(const AdamWPointers&, int64_t, double, double, double, double, void*) {
  fail(ErrorKind::kInternal, "a CUDA kernel was called, and dsft was built without CUDA");
}

}  // namespace dsft::optim::cuda
