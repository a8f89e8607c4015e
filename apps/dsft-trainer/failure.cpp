#include "dsft-trainer/failure.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <new>

#include "device/device.h"
#include "io/path_error.h"

namespace dsft::apps {
namespace {

Failure out_of_memory(const std::string& what) {
  return {
      concat(what,
             "\nIn training, try a smaller training.per_device_train_batch_size (auto_find_batch_size: true looks for "
             "one) or data.max_length, or training.gradient_checkpointing: selective or true."),
      ErrorKind::kDevice};
}

Failure bug(const std::string& what) {
  return {concat("internal error: ", what, "\nThis is a bug in dsft; please report it with the output of `dsft env`."),
          ErrorKind::kInternal};
}

}  // namespace

Failure describe_current_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.full_message(), error.kind()};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(concat("out of GPU memory: ", error.what_without_backtrace()));
  } catch (const std::filesystem::filesystem_error& error) {
    return {io::path_error(error, ErrorKind::kCheckpoint).message(), ErrorKind::kCheckpoint};
  } catch (const std::bad_alloc&) {
    return out_of_memory("out of memory");
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    return device::is_out_of_memory(error) ? out_of_memory("out of memory: " + message) : bug(message);
  } catch (const std::exception& error) {
    return bug(error.what());
  } catch (...) {
    return bug("an exception of no known kind");
  }
}

}  // namespace dsft::apps
