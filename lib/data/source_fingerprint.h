#pragma once

namespace dsft::data {

/// The version of dsft and a hash of the sources that turn rows into tokens (cmake/source_fingerprint.cmake): a cache
/// that another build made may hold other tokens.
const char* source_fingerprint();

}  // namespace dsft::data
