#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "report/record_file.h"

namespace dsft::report {

/// CRC-32C (Castagnoli) of bytes, as TFRecord frames it: rotated by 15 bits and with a constant added, so that a
/// checksum of data that holds checksums stays strong.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

/// One TFRecord: length, checksum of the length, data, checksum of the data.
std::string frame_record(std::string_view data);

/// Encodes the protobuf message tensorflow.Event that opens a file ("brain.Event:2").
std::string encode_version_event(double wall_time_s);
/// Encodes the protobuf message tensorflow.Event with one simple_value for each scalar.
std::string encode_scalar_event(double wall_time_s, int64_t step, const std::map<std::string, double>& scalars);

/// A TensorBoard event file of scalars: DIR/events.out.tfevents.<seconds>.<host>.<process>.dsft. Each event is in the
/// file when add_scalars returns, so that a running TensorBoard shows it and a killed run keeps it; where the disk is
/// full it waits (RecordFile).
class EventFile {
 public:
  /// Makes the folder and the file; throws kCheckpoint where they cannot be made.
  EventFile(const std::filesystem::path& directory, RecordFile::Warn warn);

  /// Appends one event.
  void add_scalars(int64_t step, const std::map<std::string, double>& scalars);

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::optional<RecordFile> file_;
};

}  // namespace dsft::report
