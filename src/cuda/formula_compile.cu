/* Kernels made for one formula while the program runs: CUDA C with a line for each step, compiled by NVRTC
 * for the device at hand, once for each formula. Without NVRTC formulas are interpreted, which gives the same
 * bytes. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/device.cuh"
#include "cuda/formula.cuh"
#include "cuda/formula_ops.cuh"

/* Types too: those of two files may have one name. */
namespace
{

/* What generated code includes, as text. */
const struct header {
    const char *name, *text;
} headers[] = {
#include "formula_headers.inc"
    {"stdint.h", "typedef signed char int8_t; typedef unsigned char uint8_t; typedef short int16_t;\n"
                 "typedef unsigned short uint16_t; typedef int int32_t; typedef unsigned uint32_t;\n"
                 "typedef long long int64_t; typedef unsigned long long uint64_t;\n"},
    {"string.h", "#define __builtin_memcpy memcpy\n"}, /* NVRTC knows this one alone */
};
constexpr int HEADERS = sizeof headers / sizeof *headers;

/* --- source --- */

const char *const operations[SL_F_COUNT] = {
#define OPERATION(id, ...) #id,
#include "core/formula.def"
#undef OPERATION
#define ACTIVATION(id, ...) "VALUE_" #id,
#include "slope/activations.def"
#undef ACTIVATION
#define ACTIVATION(id, ...) "SLOPE_" #id,
#include "slope/activations.def"
#undef ACTIVATION
};

/* Every step makes a value of its own: v12. What a buffer holds at the time is in `held`. */
static void write_steps(FILE *to, const sl_formula *formula, const sl_formula_program *program)
{
    int held[SL_FORMULA_BUFFERS] = {}, n = 1;
    for (int k = 0; k < formula->n_parameters; k++, n++) {
        held[n] = n;
        fprintf(to, "        const float v%d = j.a[%d][j.a_wide[%d] ? column : 0];\n", n, k, k);
    }
    for (int k = 0; k < program->n_constants; k++, n++) {
        const float value = (float)program->constant[k];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        held[n] = n;
        fprintf(to, "        const float v%d = __uint_as_float(0x%08xu); /* %.9g */\n", n, bits,
                (double)value);
    }
    for (int i = 0; i < program->n_steps; i++, n++) {
        const sl_formula_step *step = &program->step[i];
        fprintf(to, "        const float v%d = sl_f_%s(v%d, v%d, v%d, v%d);\n", n, operations[step->op],
                held[step->in[0]], held[step->in[1]], held[step->in[2]], held[step->in[3]]);
        held[step->to] = n;
    }
    fprintf(to, "        j.y[i] = j.dy ? j.dy[i] * v%d : v%d;\n", held[program->result],
            held[program->result]);
}

static void write_kernel(FILE *to, const char *name, const sl_formula *formula,
                         const sl_formula_program *program)
{
    fprintf(
        to,
        "extern \"C\" __global__ void __launch_bounds__(256) %s(const __grid_constant__ sl_formula_arguments "
        "j)\n"
        "{\n"
        "    for (long long i = blockIdx.x * 256ll + threadIdx.x; i < j.count; i += gridDim.x * 256ll) {\n"
        "        const long long column = j.wide ? i %% j.columns : 0;\n"
        "        float v0 = j.x[i];\n"
        "        (void)column;\n"
        "        if (j.bias) v0 = v0 + j.bias[j.bias_wide ? column : 0];\n"
        "        if (j.z) j.z[i] = v0;\n",
        name);
    write_steps(to, formula, program);
    fputs("    }\n}\n", to);
}

/* --- NVRTC, found where it is needed --- */

typedef struct program *nvrtc_program;
struct nvrtc {
    void *handle;
    int (*create)(nvrtc_program *, const char *source, const char *name, int n, const char *const *texts,
                  const char *const *names);
    int (*compile)(nvrtc_program, int n, const char *const *options);
    int (*destroy)(nvrtc_program *);
    int (*log_size)(nvrtc_program, size_t *);
    int (*log)(nvrtc_program, char *);
    int (*size[2])(nvrtc_program, size_t *); /* PTX, machine code */
    int (*get[2])(nvrtc_program, char *);
};

template <class F> static bool find(void *library, const char *name, F *function)
{
    *function = reinterpret_cast<F>(dlsym(library, name));
    return *function != nullptr;
}

static bool nvrtc_open(nvrtc *n)
{
    const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    for (int i = 0; i < 3 && !n->handle; i++) n->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    void *l = n->handle;
    return l && find(l, "nvrtcCreateProgram", &n->create) && find(l, "nvrtcCompileProgram", &n->compile) &&
           find(l, "nvrtcDestroyProgram", &n->destroy) && find(l, "nvrtcGetProgramLogSize", &n->log_size) &&
           find(l, "nvrtcGetProgramLog", &n->log) && find(l, "nvrtcGetPTXSize", &n->size[0]) &&
           find(l, "nvrtcGetPTX", &n->get[0]) && find(l, "nvrtcGetCUBINSize", &n->size[1]) &&
           find(l, "nvrtcGetCUBIN", &n->get[1]);
}

/* The compiler's own words. */
static void copy_log(const nvrtc *n, nvrtc_program program, char *message, size_t room)
{
    size_t size = 0;
    char *log = n->log_size(program, &size) == 0 ? static_cast<char *>(calloc(1, size + 1)) : nullptr;
    if (log && n->log(program, log) == 0) snprintf(message, room, "%s", log);
    free(log);
}

static char *compile_with(const nvrtc *n, const char *source, const char *architecture, size_t *bytes,
                          char *message, size_t room)
{
    const char *texts[HEADERS], *names[HEADERS];
    for (int i = 0; i < HEADERS; i++) texts[i] = headers[i].text, names[i] = headers[i].name;
    char option[48];
    snprintf(option, sizeof option, "-arch=%s", architecture);
    const char *const options[] = {option, "-fmad=false", "-std=c++17", "-default-device"};
    const int kind = strncmp(architecture, "sm_", 3) == 0;
    nvrtc_program program = nullptr;
    char *image = nullptr;
    snprintf(message, room, "NVRTC failed");
    if (n->create(&program, source, "formula.cu", HEADERS, texts, names) != 0) return nullptr;
    if (n->compile(program, sizeof options / sizeof *options, options) != 0)
        copy_log(n, program, message, room);
    else if (n->size[kind](program, bytes) == 0 && (image = static_cast<char *>(calloc(1, *bytes + 1))) &&
             n->get[kind](program, image) != 0)
        free(image), image = nullptr;
    n->destroy(&program);
    return image;
}

} // namespace

char *sl_cuda_formula_source(const sl_formula *formula)
{
    char *text = nullptr;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (!to) return nullptr;
    fputs("#include \"cuda/formula_ops.cuh\"\n", to);
    write_kernel(to, "value", formula, &formula->value);
    write_kernel(to, "slope", formula, &formula->slope);
    for (int k = 0; k < formula->n_parameters; k++) {
        char name[16];
        snprintf(name, sizeof name, "by%d", k);
        write_kernel(to, name, formula, &formula->by[k]);
    }
    return fclose(to) == 0 ? text : nullptr;
}

char *sl_cuda_formula_compile(const char *source, const char *architecture, size_t *bytes, char *message,
                              size_t room)
{
    nvrtc n = {};
    char *image = nullptr;
    if (nvrtc_open(&n))
        image = compile_with(&n, source, architecture, bytes, message, room);
    else
        snprintf(message, room, "NVRTC (libnvrtc.so of CUDA 12 or newer) was not found");
    if (n.handle) dlclose(n.handle);
    return image;
}

/* --- the device's kernels --- */

#if defined(SLOPE_SIMT) ||                                                                                   \
    CUDART_VERSION < 12080 /* where a library is loaded without the driver's interface */
bool sl_cuda_formula_prepare(sl_device *, const sl_formula *)
{
    return false;
}
bool sl_cuda_formula_compiled(const sl_device *, const sl_formula *)
{
    return false;
}
bool sl_cuda_formula_launch(const sl_call *, const sl_formula *, const sl_formula_program *,
                            const sl_formula_arguments &)
{
    return false;
}
void sl_cuda_formula_forget(sl_device *)
{
}
#else

struct sl_formula_kernels {
    char text[SL_FORMULA_TEXT]; /* of the formula */
    int n_parameters;
    cudaLibrary_t library; /* NULL: it could not be compiled */
    cudaKernel_t value, slope, by[SL_FORMULA_PARAMETERS];
    sl_formula_kernels *next;
};

static const sl_formula_kernels *find_compiled(const sl_device *device, const sl_formula *formula)
{
    const sl_formula_kernels *f = device->formulas;
    while (f && strcmp(f->text, formula->text) != 0) f = f->next;
    return f;
}

bool sl_cuda_formula_compiled(const sl_device *device, const sl_formula *formula)
{
    const sl_formula_kernels *f = find_compiled(device, formula);
    return f && f->library;
}

static bool load(sl_formula_kernels *f, const char *image)
{
    if (cudaLibraryLoadData(&f->library, image, nullptr, nullptr, 0, nullptr, nullptr, 0) != cudaSuccess)
        return false;
    bool good = cudaLibraryGetKernel(&f->value, f->library, "value") == cudaSuccess &&
                cudaLibraryGetKernel(&f->slope, f->library, "slope") == cudaSuccess;
    for (int k = 0; k < f->n_parameters && good; k++) {
        char name[16];
        snprintf(name, sizeof name, "by%d", k);
        good = cudaLibraryGetKernel(&f->by[k], f->library, name) == cudaSuccess;
    }
    if (!good) cudaLibraryUnload(f->library);
    return good;
}

bool sl_cuda_formula_prepare(sl_device *device, const sl_formula *formula)
{
    if (find_compiled(device, formula)) return sl_cuda_formula_compiled(device, formula);
    sl_formula_kernels *f = static_cast<sl_formula_kernels *>(calloc(1, sizeof *f));
    if (!f) return false;
    memcpy(f->text, formula->text, sizeof f->text);
    f->n_parameters = formula->n_parameters;
    f->next = device->formulas;
    device->formulas = f;
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device->index);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device->index);
    char architecture[32], message[512];
    snprintf(architecture, sizeof architecture, "sm_%d%d", major, minor);
    size_t bytes = 0;
    char *source = sl_cuda_formula_source(formula);
    char *image =
        source ? sl_cuda_formula_compile(source, architecture, &bytes, message, sizeof message) : nullptr;
    sl_cuda_use(device);
    if (image && !load(f, image)) f->library = nullptr;
    cudaGetLastError(); /* then it is interpreted */
    free(image);
    free(source);
    return f->library != nullptr;
}

bool sl_cuda_formula_launch(const sl_call *call, const sl_formula *formula, const sl_formula_program *program,
                            const sl_formula_arguments &arguments)
{
    const sl_formula_kernels *f = find_compiled(call->device, formula);
    if (!f || !f->library) return false;
    if (arguments.count == 0) return true;
    cudaKernel_t kernel = program == &formula->value ? f->value : f->slope;
    for (int k = 0; k < formula->n_parameters; k++)
        if (program == &formula->by[k]) kernel = f->by[k];
    const void *list[] = {&arguments};
    const unsigned grid = sl_cuda_grid(call, arguments.count, 256, 128);
    const cudaError_t error = cudaLaunchKernel(reinterpret_cast<const void *>(kernel), dim3(grid), dim3(256),
                                               const_cast<void **>(list), 0, sl_cuda_stream(call->device));
    sl_cuda_note(call->device, error, "formula", call->name);
    return true;
}

void sl_cuda_formula_forget(sl_device *device)
{
    while (device->formulas) {
        sl_formula_kernels *f = device->formulas;
        device->formulas = f->next;
        if (f->library) cudaLibraryUnload(f->library);
        free(f);
    }
}
#endif
