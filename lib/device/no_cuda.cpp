#include "base/error.h"
#include "device/cuda_device.h"

namespace dsft::device::cuda {

bool is_built() {
  return false;
}
int device_count() {
  return 0;
}
std::string device_name(int) {
  DSFT_CHECK(false, "built without CUDA");
}
void set_device(int) {
  DSFT_CHECK(false, "built without CUDA");
}
void synchronize() {
  DSFT_CHECK(false, "built without CUDA");
}
void* current_stream(int) {
  DSFT_CHECK(false, "built without CUDA");
}
int64_t peak_allocated_bytes(int) {
  DSFT_CHECK(false, "built without CUDA");
}

}  // namespace dsft::device::cuda
