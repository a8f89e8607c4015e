#include "device/staged_upload.h"

#include <torch/types.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft;

namespace {

constexpr int64_t kPieceBytes = 64;
constexpr int64_t kPieceElements = kPieceBytes / static_cast<int64_t>(sizeof(float));

// Writes 0, 1, 2, ... as fp32 into a flat tensor, piece by piece; `see` is shown the memory that each piece is written
// to.
void put_numbers(device::StagedUpload& upload, const at::Tensor& target, const std::function<void(void*)>& see) {
  for (int64_t begin = 0; begin < target.numel(); begin += kPieceElements) {
    const int64_t size = std::min(kPieceElements, target.numel() - begin);
    upload.put(target.narrow(0, begin, size), at::kFloat, [&](void* memory) {
      see(memory);
      auto* numbers = static_cast<float*>(memory);
      std::iota(numbers, numbers + size, static_cast<float>(begin));
    });
  }
}

at::Tensor numbers(int64_t count, at::ScalarType type) {
  return torch::arange(count, at::kFloat).to(type);
}

}  // namespace

TEST_CASE("On the CPU elements of the target's type are written in place, others are converted", "[device]") {
  device::StagedUpload upload(at::kCPU, kPieceBytes);
  const at::Tensor same = torch::zeros({150}, at::kFloat), other = torch::zeros({150}, at::kBFloat16);
  put_numbers(upload, same, [&](void* memory) {
    CHECK(memory >= same.data_ptr());
    CHECK(memory < same.const_data_ptr<float>() + same.numel());
  });
  put_numbers(upload, other, [](void*) {});
  CHECK(torch::equal(same, numbers(150, at::kFloat)));
  CHECK(torch::equal(other, numbers(150, at::kBFloat16)));
}

TEST_CASE("A piece that could not be made leaves the upload usable", "[device]") {
  device::StagedUpload upload(at::kCPU, kPieceBytes);
  const at::Tensor target = torch::zeros({40}, at::kDouble);
  CHECK_THROWS_AS(
      upload.put(target.narrow(0, 0, 4), at::kFloat, [](void*) { throw std::runtime_error("the disk is gone"); }),
      std::runtime_error);
  put_numbers(upload, target, [](void*) {});
  CHECK(torch::equal(target, numbers(40, at::kDouble)));
}

TEST_CASE("Pieces go to a GPU from two pinned buffers without waiting for it, and are converted there",
          "[device][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const at::Tensor target = torch::zeros({1000}, at::TensorOptions(gpu).dtype(type));
    device::synchronize(gpu);
    std::set<void*> buffers;
    {
      std::optional<device::WaitsForbidden> forbidden(std::in_place);
      device::StagedUpload upload(gpu, kPieceBytes);
      put_numbers(upload, target, [&](void* memory) {
        CHECK(torch::from_blob(memory, {kPieceElements}).is_pinned());
        buffers.insert(memory);
      });
      forbidden.reset();
      upload.wait();
    }
    CHECK(buffers.size() == 2);
    CHECK(torch::equal(target.cpu(), numbers(1000, type)));
  }
}
