#include "dsft-trainer/failure.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <new>

#include "device/device.h"
#include "io/path_error.h"

namespace dsft::apps {
namespace {

Failure out_of_memory(const std::string& what, std::string_view advice) {
  return {concat(what, advice.empty() ? "" : "\n", advice), ErrorKind::kDevice, /*is_out_of_memory=*/true};
}

Failure bug(const std::string& what) {
  return {concat("internal error: ", what, "\nThis is a bug in dsft; please report it with the output of `dsft env`."),
          ErrorKind::kInternal, /*is_out_of_memory=*/false};
}

}  // namespace

Failure describe_current_exception(std::string_view memory_advice) {
  try {
    throw;
  } catch (const Error& error) {
    return {error.full_message(), error.kind(), device::is_out_of_memory(error)};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(concat("out of GPU memory: ", error.what_without_backtrace()), memory_advice);
  } catch (const std::filesystem::filesystem_error& error) {
    return {io::path_error(error, ErrorKind::kCheckpoint).message(), ErrorKind::kCheckpoint,
            /*is_out_of_memory=*/false};
  } catch (const std::bad_alloc&) {
    return out_of_memory("out of memory", memory_advice);
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    return device::is_out_of_memory(error) ? out_of_memory("out of memory: " + message, memory_advice) : bug(message);
  } catch (const std::exception& error) {
    return bug(error.what());
  } catch (...) {
    return bug("an exception of no known kind");
  }
}

}  // namespace dsft::apps
