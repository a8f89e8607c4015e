#include "checkpoint/tensor_file.h"

#include <torch/types.h>

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
  io::SafetensorsWriter writer(path, describe_tensors(tensors), metadata);
  for (const auto& [name, tensor] : tensors) write_tensor(writer, tensor, tensor.scalar_type());
  writer.finish();
}

std::vector<io::TensorInfo> describe_tensors(const NamedTensors& tensors) {
  std::vector<io::TensorInfo> infos;
  for (const auto& [name, tensor] : tensors)
    infos.push_back(describe_tensor(name, tensor.sizes().vec(), tensor.scalar_type()));
  return infos;
}

io::TensorInfo describe_tensor(const std::string& name, const std::vector<int64_t>& shape, at::ScalarType type) {
  io::TensorInfo info;
  info.name = name;
  info.shape = shape;
  info.dtype = to_file_dtype(type);
  return info;
}

}  // namespace dsft::checkpoint
