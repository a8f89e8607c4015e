#include "dsft/gpu_list.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/error.h"
#include "dsft/build_facts.h"
#include "launch/visible_gpus.h"

namespace dsft::apps {
namespace {

struct NvmlMemory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};

/// The functions of libnvidia-ml.so.1 that are needed; their signatures are those of nvml.h.
class Nvml {
 public:
  explicit Nvml(void* library) : library_(library) {}

  template <typename Function>
  Function* find(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(library_, name));
  }

 private:
  void* library_;
};

void read_gpus(const Nvml& nvml, GpuList& list) {
  const auto count_gpus = nvml.find<int(unsigned*)>("nvmlDeviceGetCount_v2");
  const auto get_handle = nvml.find<int(unsigned, void**)>("nvmlDeviceGetHandleByIndex_v2");
  const auto get_name = nvml.find<int(void*, char*, unsigned)>("nvmlDeviceGetName");
  const auto get_memory = nvml.find<int(void*, NvmlMemory*)>("nvmlDeviceGetMemoryInfo");
  unsigned count = 0;
  if (!count_gpus || !get_handle || !get_name || !get_memory || count_gpus(&count) != 0) {
    list.problem = "the driver does not tell its GPUs";
    return;
  }
  for (unsigned i = 0; i < count; ++i) {
    void* handle = nullptr;
    std::array<char, 96> name{};
    NvmlMemory memory{};
    if (get_handle(i, &handle) != 0 || get_name(handle, name.data(), name.size()) != 0) continue;
    get_memory(handle, &memory);
    list.gpus.push_back({name.data(), static_cast<int64_t>(memory.total)});
  }
}

}  // namespace

GpuList list_gpus() {
  GpuList list;
  void* library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!library) return list;
  const std::unique_ptr<void, int (*)(void*)> closer(library, dlclose);
  const Nvml nvml(library);
  const auto init = nvml.find<int()>("nvmlInit_v2");
  const auto shutdown = nvml.find<int()>("nvmlShutdown");
  if (!init || !shutdown) {
    list.problem = "libnvidia-ml.so.1 is too old";
    return list;
  }
  if (const int code = init(); code != 0) {
    list.problem = concat("the NVIDIA driver does not answer (NVML code ", code, ")");
    return list;
  }
  std::array<char, 96> driver{};
  const auto get_driver = nvml.find<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  if (get_driver && get_driver(driver.data(), driver.size()) == 0) list.driver = driver.data();
  read_gpus(nvml, list);
  shutdown();
  return list;
}

int count_gpus() {
  return std::string_view(DSFT_BUILD_CUDA) == "TRUE" ? static_cast<int>(list_gpus().gpus.size()) : 0;
}

int count_usable_gpus() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return launch::count_visible_gpus(visible ? std::optional<std::string_view>(visible) : std::nullopt, count_gpus());
}

}  // namespace dsft::apps
