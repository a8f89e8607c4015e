// Preloaded into a program (LD_PRELOAD), makes one system call on files below a folder fail or kill the process: the
// k-th write, fsync, rename, mkdir or unlink. For tests of what a crash or a full disk leaves.
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

enum Kind { kNone, kKill, kEnospc, kEnospcForever, kEio, kShort };

Kind kind = kNone;
long spoiled_call = 0;
char folder[PATH_MAX];
std::atomic<long> num_calls{0};
size_t largest_allocation = 0;  // 0: any
size_t largest_new = 0;
const char* hang_file = nullptr;  // this rank's; null: it never hangs
size_t least_of_hang = 0;

bool is_below(const char* path) {
  const size_t length = std::strlen(folder);
  return kind != kNone && std::strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

bool is_descriptor_below(int descriptor) {
  if (kind == kNone) return false;
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = ::readlink(link, path, sizeof path - 1);
  if (length < 0) return false;
  path[length] = '\0';
  return is_below(path);
}

// Counts a call; gives the errno that it is to fail with, -1 for a short write, 0 where it is to succeed.
int fault_of_call() {
  const long number = ++num_calls;
  if (kind == kEnospcForever && number >= spoiled_call) return ENOSPC;
  if (number != spoiled_call) return 0;
  if (kind == kKill) ::kill(::getpid(), SIGKILL);
  return kind == kEnospc ? ENOSPC : kind == kEio ? EIO : kind == kShort ? -1 : 0;
}

bool must_fail(bool is_concerned) {
  const int fault = is_concerned ? fault_of_call() : 0;
  if (fault > 0) errno = fault;
  return fault > 0;
}

template <typename Function>
Function* real(Function*, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

/// Counts calls below `path` from now on and spoils the `call`-th. Found by name (dlsym).
void dsft_fault_arm(const char* name, long call, const char* path) {
  constexpr const char* kNames[] = {"none", "kill", "enospc", "enospc_forever", "eio", "short"};
  kind = kNone;
  for (int i = 0; i < 6; ++i)
    if (std::strcmp(name, kNames[i]) == 0) kind = static_cast<Kind>(i);
  spoiled_call = call;
  std::snprintf(folder, sizeof folder, "%s", path);
  num_calls = 0;
}

long dsft_fault_num_calls() {
  return num_calls;
}

// DSFT_FAULT="kind:call:folder" arms it from the start; DSFT_FAULT_ALLOCATION=BYTES refuses larger tensors,
// DSFT_FAULT_NEW=BYTES larger objects of C++; DSFT_FAULT_HANG=RANK:BYTES:FILE has a rank of mpirun hang in its next
// tensor of so many bytes or more once the file is there.
__attribute__((constructor)) void dsft_fault_arm_from_environment() {
  if (const char* bytes = std::getenv("DSFT_FAULT_ALLOCATION")) largest_allocation = std::strtoull(bytes, nullptr, 10);
  if (const char* bytes = std::getenv("DSFT_FAULT_NEW")) largest_new = std::strtoull(bytes, nullptr, 10);
  const char *hang = std::getenv("DSFT_FAULT_HANG"), *rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const char* bytes = hang ? std::strchr(hang, ':') : nullptr;
  const char* file = bytes ? std::strchr(bytes + 1, ':') : nullptr;
  if (file && rank && std::atoi(hang) == std::atoi(rank)) {
    hang_file = file + 1;
    least_of_hang = std::strtoull(bytes + 1, nullptr, 10);
  }
  const char* text = std::getenv("DSFT_FAULT");
  char name[32], path[PATH_MAX];
  long call = 0;
  if (text && std::sscanf(text, "%31[^:]:%ld:%4095[^\n]", name, &call, path) == 3) dsft_fault_arm(name, call, path);
}

ssize_t write(int descriptor, const void* data, size_t size) {
  const int fault = is_descriptor_below(descriptor) ? fault_of_call() : 0;
  if (fault > 0) {
    errno = fault;
    return -1;
  }
  return real(&::write, "write")(descriptor, data, fault < 0 && size > 1 ? size / 2 : size);
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  if (must_fail(is_descriptor_below(descriptor))) return -1;
  return real(&::writev, "writev")(descriptor, parts, count);
}

int fsync(int descriptor) {
  // the disk itself is not in question here, and waiting for it takes most of a test's time
  return must_fail(is_descriptor_below(descriptor)) ? -1 : 0;
}

int rename(const char* from, const char* to) noexcept {
  if (must_fail(is_below(from) || is_below(to))) return -1;
  return real(&::rename, "rename")(from, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  if (must_fail(is_below(from) || is_below(to))) return -1;
  return real(&::renameat2, "renameat2")(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (must_fail(is_below(path))) return -1;
  return real(&::mkdir, "mkdir")(path, mode);
}

// Freeing space works on a full disk; a process may be killed there all the same.
int unlinkat(int descriptor, const char* path, int flags) noexcept {
  if (kind == kKill && is_descriptor_below(descriptor)) fault_of_call();
  return real(&::unlinkat, "unlinkat")(descriptor, path, flags);
}

int posix_memalign(void** address, size_t alignment, size_t size) noexcept {
  if (largest_allocation > 0 && size > largest_allocation) return ENOMEM;
  while (hang_file && size >= least_of_hang && ::access(hang_file, F_OK) == 0) ::pause();
  return real(&::posix_memalign, "posix_memalign")(address, alignment, size);
}
}

void* operator new(size_t size) {
  void* const memory = largest_new > 0 && size > largest_new ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
