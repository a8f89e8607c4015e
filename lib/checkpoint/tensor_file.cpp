#include "checkpoint/tensor_file.h"

#include <torch/types.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace dsft::checkpoint {

namespace {

struct TypeRow {
  io::DType file;
  at::ScalarType scalar;
};
constexpr auto kTypes = std::to_array<TypeRow>({{io::DType::kF32, at::kFloat},
                                                {io::DType::kBF16, at::kBFloat16},
                                                {io::DType::kF16, at::kHalf},
                                                {io::DType::kF64, at::kDouble},
                                                {io::DType::kI64, at::kLong},
                                                {io::DType::kI32, at::kInt},
                                                {io::DType::kI16, at::kShort},
                                                {io::DType::kI8, at::kChar},
                                                {io::DType::kU8, at::kByte},
                                                {io::DType::kBool, at::kBool}});

constexpr int64_t kPieceElements = int64_t{4} << 20;

}  // namespace

at::ScalarType to_scalar_type(io::DType dtype) {
  for (const TypeRow& row : kTypes) {
    if (row.file == dtype) return row.scalar;
  }
  fail(ErrorKind::kCheckpoint, "dsft does not compute with tensors of type ", io::dtype_name(dtype), ".");
}

io::DType to_file_dtype(at::ScalarType type) {
  for (const TypeRow& row : kTypes) {
    if (row.scalar == type) return row.file;
  }
  DSFT_CHECK(false, "a tensor type that is never written: ", at::toString(type));
  return io::DType::kF32;
}

at::Tensor read_tensor(const io::SafetensorsFile& file, const io::TensorInfo& info) {
  at::Tensor tensor = at::empty(info.shape, to_scalar_type(info.dtype));
  file.read(info, tensor.data_ptr());
  return tensor;
}

at::Tensor read_tensor(const io::SafetensorsSet& weights, const io::TensorInfo& info) {
  return read_tensor(weights.file_of(info), info);
}

void write_tensor(io::SafetensorsWriter& writer, const at::Tensor& tensor, at::ScalarType type) {
  const at::Tensor bytes = tensor.detach().to(at::kCPU, type).contiguous();
  writer.write(bytes.data_ptr(), static_cast<uint64_t>(bytes.nbytes()));
}

void write_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<io::TensorInfo> infos;
  for (const auto& [name, tensor] : tensors)
    infos.push_back(describe_tensor(name, tensor.sizes().vec(), tensor.scalar_type()));
  io::SafetensorsWriter writer(path, std::move(infos), metadata);
  for (const auto& [name, tensor] : tensors) write_tensor(writer, tensor, tensor.scalar_type());
  writer.finish();
}

void read_into(const io::SafetensorsFile& file, const io::TensorInfo& info, const at::Tensor& destination) {
  DSFT_CHECK(destination.is_contiguous() && destination.sizes().vec() == info.shape, "the place for ", info.name,
             " does not fit");
  const at::NoGradGuard no_grad;
  const at::ScalarType type = to_scalar_type(info.dtype);
  const at::Tensor flat = destination.detach().view({-1});
  if (flat.device().is_cpu() && flat.scalar_type() == type) return file.read(info, flat.data_ptr());
  const int64_t count = flat.numel();
  const at::Tensor buffer = at::empty({std::min(count, kPieceElements)}, type);
  const int64_t element_size = io::dtype_size(info.dtype);
  for (int64_t begin = 0; begin < count; begin += kPieceElements) {
    const int64_t size = std::min(kPieceElements, count - begin);
    file.read(info, static_cast<uint64_t>(begin * element_size), static_cast<uint64_t>(size * element_size),
              buffer.data_ptr());
    flat.narrow(0, begin, size).copy_(buffer.narrow(0, 0, size));
  }
}

io::TensorInfo describe_tensor(const std::string& name, const std::vector<int64_t>& shape, at::ScalarType type) {
  io::TensorInfo info;
  info.name = name;
  info.shape = shape;
  info.dtype = to_file_dtype(type);
  return info;
}

}  // namespace dsft::checkpoint
