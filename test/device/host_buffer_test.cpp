#include "device/host_buffer.h"

#include <torch/types.h>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "support/require_error.h"

using namespace dsft;
using device::HostBuffer;
using device::HostPages;

TEST_CASE("A host buffer holds zeros, whatever its size and type, and lives as long as its tensors", "[device]") {
  const int64_t numel = GENERATE(0, 1, 4097, 100'003);
  const at::ScalarType type = GENERATE(at::kFloat, at::kBFloat16);
  at::Tensor tail;
  {
    const HostBuffer buffer(numel, type, HostPages::kPageable);
    REQUIRE(buffer.tensor().numel() == numel);
    CHECK(buffer.tensor().scalar_type() == type);
    CHECK(buffer.tensor().is_contiguous());
    CHECK(at::equal(buffer.tensor(), at::zeros({numel}, type)));
    tail = buffer.tensor().narrow(0, numel / 2, numel - numel / 2);
  }
  tail.fill_(3);
  CHECK(at::equal(tail, at::full({numel - numel / 2}, 3, type)));
}

TEST_CASE("A host buffer that its host has no room for is refused before any of it is taken", "[device]") {
  const device::HostMemory memory{1 << 20, 1 << 30, "a limit"};
  CHECK_NOTHROW(HostBuffer(1 << 18, at::kFloat, HostPages::kPageable, memory));
  // pinned too: the memory is looked at before the GPU, which may not be there
  for (const HostPages pages : {HostPages::kPageable, HostPages::kPinned})
    test::require_error(ErrorKind::kDevice, {"needs 4096.0 GiB", "free by a limit"},
                        [&] { HostBuffer(int64_t{1} << 40, at::kFloat, pages, memory); });
}

TEST_CASE("Pages that cannot be locked are a fault that says what to do", "[device]") {
  if (device::has_cuda()) SKIP("a GPU is visible");
  test::require_error(ErrorKind::kDevice, {"could not be pinned", "pin_memory: false"},
                      [] { HostBuffer(16, at::kFloat, HostPages::kPinned); });
}

TEST_CASE("A pinned host buffer is copied to and from a GPU while the host goes on", "[device][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  const HostBuffer buffer(1 << 20, at::kFloat, HostPages::kPinned);
  const at::Tensor host = buffer.tensor();
  CHECK(host.is_pinned());
  const at::Tensor values = at::arange(host.numel(), at::TensorOptions(at::kFloat).device(gpu));
  {
    const device::WaitsForbidden forbidden;
    host.copy_(values, /*non_blocking=*/true);
  }
  device::synchronize(gpu);
  CHECK(at::equal(host, at::arange(host.numel(), at::kFloat)));
}
