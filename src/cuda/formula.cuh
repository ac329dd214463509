/* Activations from expressions: see core/formula.h. */
#ifndef SL_CUDA_FORMULA_CUH
#define SL_CUDA_FORMULA_CUH

#include "cuda/cuda.cuh"
extern "C" {
#include "core/formula.h"
}

struct sl_formula_arguments;

/* Slopes of the formula of a call whose inputs are those of ACTIVATION_VJP -> to; its input 0 is not read. */
void sl_cuda_formula_slopes(const sl_call *call, float *to);

extern "C" {
/* CUDA C with a kernel for each program of the formula: value, slope, by0, by1, … To be freed; NULL: no
 * memory. */
char *sl_cuda_formula_source(const sl_formula *formula);
/* Compiles it by NVRTC, which is looked for when this is called. `architecture`: "sm_90" gives machine code,
 * "compute_90" PTX. The image is to be freed; NULL: a message tells why. */
char *sl_cuda_formula_compile(const char *source, const char *architecture, size_t *bytes, char *message,
                              size_t room);
}

/* True where the device has kernels compiled for the formula; they are made where it was not tried before.
 * Not while a plan is captured. */
bool sl_cuda_formula_prepare(sl_device *device, const sl_formula *formula);
/* Launches the kernel of one of the formula's programs; false where there is none. */
bool sl_cuda_formula_launch(const sl_call *call, const sl_formula *formula, const sl_formula_program *program,
                            const sl_formula_arguments &arguments);
/* Whether it would. */
bool sl_cuda_formula_compiled(const sl_device *device, const sl_formula *formula);
void sl_cuda_formula_forget(sl_device *device);
#endif
