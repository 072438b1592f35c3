// Stand-in for libcuda and NVRTC: the functions that instructx_core/kernels/{driver,nvrtc}.py call, on the CPU.
// A "cubin" made here is text that starts with an ELF mark; a launch goes to the kernel emulator (a shared library with
// `launch_<kernel>`), or, without one, only to the log. Everything is checked that the real driver would check.
#include <dlfcn.h>
#include <unistd.h>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
typedef int (*Launch)(const void*, const uint32_t*, uint32_t, uint32_t, uint32_t, char*, int32_t);
struct Library { std::string code; };
struct Kernel { std::string name; int shared = 48 * 1024; bool resident = false; };

// A device is a handle, not its place in the list: the card that CUDA counts as number i.
constexpr int CARDS = 2, HANDLE = 40;
static std::string g_error = "no error", g_log, g_broken, g_source_headers, g_fault;
static int g_code = 999, g_order[CARDS] = {0, 1}, g_slice = 0, g_context_of = -1, g_bound[CARDS] = {1, 2};
static void* g_emulator = nullptr;
static int g_major = 8, g_minor = 9, g_driver = 13000, g_compiles = 0, g_loads = 0, g_context = 0;
static uint32_t g_seed = 1;
static std::map<std::string, Kernel*> g_kernels;

static int fail(int code, const std::string& why) { g_error = why; return code; }
static bool broken(const char* name) { return g_broken == name; }
#define BREAKABLE(name) if (broken(name)) return fail(g_code, std::string(name) + " told to fail")
static bool is_card(int device) { return device >= HANDLE && device < HANDLE + CARDS; }
#define NEEDS_CARD(device) if (!is_card(device)) return fail(101, "invalid device ordinal")

// --- controls of the tests
API void stand_in_reset() {
  g_error = "no error"; g_log.clear(); g_broken.clear(); g_major = 8; g_minor = 9; g_compiles = g_loads = 0;
  g_context = 0; g_seed = 1; g_kernels.clear(); g_emulator = nullptr; g_fault.clear(); g_code = 999;
  g_order[0] = 0; g_order[1] = 1; g_slice = 0; g_context_of = -1;
}
API void stand_in_code(int code) { g_code = code; }                       // of the function told to fail
API void stand_in_swap() { g_order[0] = 1; g_order[1] = 0; }              // the driver counts its cards the other way
API void stand_in_slice(int slice) { g_slice = slice; }                   // a MIG part of each card is used
API void stand_in_fault(const char* how) { g_fault = how; }               // "<kernel> abort" or "<kernel> hang"
API int stand_in_context() { return g_context_of; }                       // handle of the current context's card
API void stand_in_enter(int ordinal) { g_context = 1; g_context_of = HANDLE + g_order[ordinal]; }
API void stand_in_card(int major, int minor) { g_major = major; g_minor = minor; }
API void stand_in_break(const char* name) { g_broken = name; }
API int stand_in_emulator(const char* path) { g_emulator = dlopen(path, RTLD_NOW | RTLD_LOCAL); return g_emulator ? 0 : 1; }
API void stand_in_seed(uint32_t seed) { g_seed = seed; }
API int stand_in_compiles() { return g_compiles; }
API int stand_in_loads() { return g_loads; }
API const char* stand_in_log() { return g_log.c_str(); }
API const char* stand_in_headers() { return g_source_headers.c_str(); }

// --- driver
API int cuInit(unsigned) { BREAKABLE("cuInit"); return 0; }
API int cuDriverGetVersion(int* out) { *out = g_driver; return 0; }
API int cuDeviceGetCount(int* out) { *out = CARDS; return 0; }
API int cuDeviceGet(int* out, int i) {
  if (i < 0 || i >= CARDS) return fail(101, "invalid device ordinal");
  *out = HANDLE + g_order[i];
  return 0;
}
API int cuDeviceGetUuid(unsigned char* out, int device) {
  NEEDS_CARD(device);
  memset(out, 0x10 + device - HANDLE, 16);
  return 0;
}
API int cuDeviceGetUuid_v2(unsigned char* out, int device) {
  NEEDS_CARD(device);
  memset(out, 0x10 + device - HANDLE + 0x80 * g_slice, 16);
  return 0;
}
API int cuDeviceGetName(char* out, int n, int device) {
  NEEDS_CARD(device);
  snprintf(out, n, "Stand-in %d", device - HANDLE);
  return 0;
}
API int cuDeviceGetAttribute(int* out, int attribute, int device) {
  NEEDS_CARD(device);
  if (attribute == 75) *out = g_major;
  else if (attribute == 76) *out = g_minor;
  else if (attribute == 97) *out = 99 * 1024;
  else return fail(1, "attribute the stand-in does not know");
  return 0;
}
API int cuCtxGetCurrent(void** out) {
  BREAKABLE("cuCtxGetCurrent");
  *out = g_context ? &g_context : nullptr;
  return 0;
}
API int cuCtxGetDevice(int* out) { *out = g_context_of; return g_context ? 0 : fail(201, "invalid device context"); }
API int cuCtxSetCurrent(void* context) {
  g_context = context != nullptr;
  g_context_of = context ? HANDLE + (int)((int*)context - g_bound) : -1;
  return 0;
}
API int cuDevicePrimaryCtxRetain(void** out, int device) {
  NEEDS_CARD(device);
  *out = &g_bound[device - HANDLE];
  return 0;
}
API int cuGetErrorString(int, const char** out) { *out = g_error.c_str(); return 0; }
API int cuLibraryLoadData(void** out, const void* code, void*, void*, unsigned a, void*, void*, unsigned b) {
  BREAKABLE("cuLibraryLoadData");
  const char* text = (const char*)code;
  if (a || b) return fail(1, "options given");
  if (memcmp(text, "\x7f" "ELF", 4) && memcmp(text, ".version", 8)) return fail(200, "device kernel image is invalid");
  ++g_loads;
  *out = new Library{text};
  return 0;
}
API int cuLibraryGetKernel(void** out, void* library, const char* name) {
  const std::string& code = ((Library*)library)->code;
  const bool real = code.rfind("\x7f" "ELF", 0) == 0 && code.rfind("\x7f" "ELF ", 0) != 0;  // made by the real NVRTC
  if (!real && code.find(std::string("\n") + name + "\n") == std::string::npos)
    return fail(500, std::string("named symbol not found: ") + name);
  Kernel*& kernel = g_kernels[name];
  if (!kernel) { kernel = new Kernel; kernel->name = name; }
  *out = kernel;
  return 0;
}
API int cuKernelSetAttribute(int attribute, int value, void* kernel, int device) {
  NEEDS_CARD(device);
  if (attribute != 8 || value > 99 * 1024) return fail(1, "invalid attribute");
  ((Kernel*)kernel)->shared = value;
  return 0;
}
API int cuKernelGetFunction(void** out, void* kernel) { ((Kernel*)kernel)->resident = true; *out = kernel; return 0; }
API int cuLaunchKernel(void* handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, void* stream, void** parameters, void** extra) {
  BREAKABLE("cuLaunchKernel");
  Kernel* kernel = (Kernel*)handle;
  if (!kernel->resident) return fail(1, "launched before it was loaded");
  if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || bx * by * bz > 1024) return fail(1, "invalid grid or block");
  if ((int)shared > kernel->shared) return fail(1, "more shared memory than was asked for");
  if (extra || !parameters || !parameters[0]) return fail(1, "parameters missing");
  char line[256];
  snprintf(line, sizeof line, "%s grid %u %u %u block %u shared %u stream %lu\n", kernel->name.c_str(), gx, gy, gz, bx,
           shared, (unsigned long)stream);
  g_log += line;
  if (g_fault == kernel->name + " abort") abort();
  while (g_fault == kernel->name + " hang") sleep(1);
  if (!g_emulator) return 0;
  Launch launch = (Launch)dlsym(g_emulator, ("launch_" + kernel->name).c_str());
  if (!launch) return fail(500, "the emulator lacks launch_" + kernel->name);
  const uint32_t grid[3] = {gx, gy, gz};
  char message[512] = "";
  if (launch(parameters[0], grid, bx * by * bz, shared, g_seed, message, sizeof message)) return fail(719, message);
  return 0;
}

// --- compiler: the "cubin" lists the extern "C" names of the source, one a line
struct Program { std::string source, output, log; };
API int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 0; return 0; }
API const char* nvrtcGetErrorString(int code) { return code == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
API int nvrtcGetNumSupportedArchs(int* out) { *out = 5; return 0; }
API int nvrtcGetSupportedArchs(int* out) { const int known[5] = {80, 86, 89, 90, 120}; memcpy(out, known, sizeof known); return 0; }
API int nvrtcCreateProgram(void** out, const char* source, const char* name, int count, const char* const* texts,
                           const char* const* names) {
  g_source_headers.clear();
  for (int i = 0; i < count; ++i) g_source_headers += std::string(names[i]) + ":" + std::to_string(strlen(texts[i])) + "\n";
  Program* program = new Program;
  program->source = source;
  *out = program;
  return name && *name ? 0 : 1;
}
API int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
  Program* program = (Program*)handle;
  ++g_compiles;
  if (broken("nvrtcCompileProgram")) { program->log = "attention.cu(7): error: told to fail"; return 6; }
  std::string target;
  for (int i = 0; i < count; ++i)
    if (!strncmp(options[i], "--gpu-architecture=", 19)) target = options[i] + 19;
  program->output = target.rfind("sm_", 0) == 0 ? "\x7f" "ELF " : ".version 8.8 ";
  program->output += target + "\n";
  return 0;
}
static std::string g_names;
API void stand_in_kernels(const char* names) { g_names = names; }
static int size_of(size_t* out, const std::string& text) { *out = text.size() + 1; return 0; }
API int nvrtcGetProgramLogSize(void* p, size_t* out) { return size_of(out, ((Program*)p)->log); }
API int nvrtcGetProgramLog(void* p, char* out) { strcpy(out, ((Program*)p)->log.c_str()); return 0; }
API int nvrtcGetCUBINSize(void* p, size_t* out) { return size_of(out, ((Program*)p)->output + g_names); }
API int nvrtcGetCUBIN(void* p, char* out) { strcpy(out, (((Program*)p)->output + g_names).c_str()); return 0; }
API int nvrtcGetPTXSize(void* p, size_t* out) { return size_of(out, ((Program*)p)->output + g_names); }
API int nvrtcGetPTX(void* p, char* out) { strcpy(out, (((Program*)p)->output + g_names).c_str()); return 0; }
API int nvrtcDestroyProgram(void** handle) { delete (Program*)*handle; *handle = nullptr; return 0; }
