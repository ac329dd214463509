/* The resident kernel: a stretch of a plan's calls as one cooperative launch, phase by phase, with a barrier
 * of the whole grid between phases instead of the way from launch to launch. */
#ifndef SL_CUDA_RESIDENT_CUH
#define SL_CUDA_RESIDENT_CUH

#include "cuda/device.cuh"

/* Calls first … first + count - 1 of a plan as a program in device memory; count 0: none. */
struct sl_resident {
    int first, count, phases;
    unsigned blocks;
    int program_bytes;
    void *memory;
    unsigned *counters; /* of the grid's barrier, then of the jobs */
};

/* What the kernel can hold on this device: blocks at once; 0: there are no such launches. */
int sl_resident_blocks(sl_device *device);
/* The first stretch at or behind call number `from` that is worth a program, made ready. count 0 where there
 * is none, or no memory for it. Nothing may be captured meanwhile. */
sl_resident sl_resident_make(sl_device *device, const sl_call *calls, int n, int from);
void sl_resident_launch(sl_device *device, const sl_resident *resident);
void sl_resident_free(sl_resident *resident);
#endif
