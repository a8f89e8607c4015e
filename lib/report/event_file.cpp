#include "report/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "base/error.h"

namespace dsft::report {
namespace {

constexpr uint32_t kCastagnoli = 0x82F63B78;  // the polynomial, bits reversed

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t index = 0; index < table.size(); ++index) {
    uint32_t value = index;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1) != 0 ? kCastagnoli : 0);
    }
    table[index] = value;
  }
  return table;
}

constexpr auto kCrcTable = make_crc_table();

template <typename Number>
std::string little_endian(Number number) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof(number), '\0');
  std::memcpy(bytes.data(), &number, sizeof(number));
  return bytes;
}

// Protobuf's wire format, as far as events need it: a field is its number and type, then the value.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) {
    bytes += static_cast<char>(value | 0x80);
  }
  return bytes += static_cast<char>(value);
}

std::string key(uint32_t field, WireType type) {
  return varint(field << 3 | type);
}

std::string bytes_field(uint32_t field, std::string_view value) {
  return key(field, kBytes) + varint(value.size()) + std::string(value);
}

// tensorflow/core/util/event.proto: wall_time = 1, step = 2, file_version = 3, summary = 5
std::string wall_time_field(double wall_time_s) {
  return key(1, kFixed64) + little_endian(wall_time_s);
}

double now_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string file_name(double time_s) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return concat("events.out.tfevents.", static_cast<int64_t>(time_s), ".", host.data(), ".", getpid(), ".dsft");
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0U;
  for (unsigned char byte : bytes) {
    crc = kCrcTable[(crc ^ byte) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U;
}

std::string frame_record(std::string_view data) {
  const std::string length = little_endian(static_cast<uint64_t>(data.size()));
  return length + little_endian(masked_crc32c(length)) + std::string(data) + little_endian(masked_crc32c(data));
}

std::string encode_version_event(double wall_time_s) {
  return wall_time_field(wall_time_s) + bytes_field(3, "brain.Event:2");
}

std::string encode_scalar_event(double wall_time_s, int64_t step, const std::map<std::string, double>& scalars) {
  // tensorflow/core/framework/summary.proto: Summary.value = 1; Value.tag = 1, Value.simple_value = 2 (a float)
  std::string summary;
  for (const auto& [name, value] : scalars) {
    summary += bytes_field(1, bytes_field(1, name) + key(2, kFixed32) + little_endian(static_cast<float>(value)));
  }
  return wall_time_field(wall_time_s) + key(2, kVarint) + varint(static_cast<uint64_t>(step)) + bytes_field(5, summary);
}

EventFile::EventFile(const std::filesystem::path& directory, RecordFile::Warn warn) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const double time_s = now_s();
  path_ = directory / file_name(time_s);
  const auto open = [path = path_] {
    try {
      return io::open_for_appending(path);
    } catch (const Error& error) {
      fail(ErrorKind::kCheckpoint, "cannot make the TensorBoard file: ", error.message(),
           " Give output_dir a folder that can be written, or set training.report_to to none.");
    }
  };
  open();  // a folder that cannot be written is for the user to mend before anything is computed
  file_.emplace(path_, open, std::move(warn));
  file_->append(frame_record(encode_version_event(time_s)));
}

void EventFile::add_scalars(int64_t step, const std::map<std::string, double>& scalars) {
  file_->append(frame_record(encode_scalar_event(now_s(), step, scalars)));
}

}  // namespace dsft::report
