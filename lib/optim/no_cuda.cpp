// What answers where dsft is built without CUDA: no tensor is on such a device then.
#include "base/error.h"
#include "optim/adamw_cuda.h"
#include "optim/gradient_norm_cuda.h"

namespace dsft::optim::cuda {
namespace {

[[noreturn]] void fail_without_cuda() {
  fail(ErrorKind::kInternal, "a CUDA kernel was called, and dsft was built without CUDA");
}

}  // namespace

void adamw(const AdamWPointers&, int64_t, double, double, double, double, void*) {
  fail_without_cuda();
}
int64_t sum_of_squares_parts() {
  fail_without_cuda();
}
void sum_of_squares(const float*, int64_t, double*, double*, void*) {
  fail_without_cuda();
}

}  // namespace dsft::optim::cuda
