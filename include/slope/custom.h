/* Operations of your own: a shape rule, kernels and derivatives, registered by nothing more than a struct.
 * They are nodes like all others: trained through, planned, captured into CUDA graphs, checked
 * (sl_check_gradients). */
#ifndef SLOPE_CUSTOM_H
#define SLOPE_CUSTOM_H

#include "slope/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SL_CUSTOM_INPUTS = 8 };

/* What a kernel gets. Tensors are dense, the last dimension fastest, of float, or int32 for labels; the batch
 * is padded, and what is computed for samples from *valid on does not matter. */
typedef struct sl_custom_call {
    int n_in;
    const void *in[SL_CUSTOM_INPUTS];
    sl_shape in_shape[SL_CUSTOM_INPUTS];
    void *out;
    sl_shape out_shape;
    const int32_t *valid; /* how many samples count; in the device's memory; NULL where nothing is batched */
    const void *data;     /* as given to sl_custom */
    bool in_double;       /* tensors of float are of double here: only where the operation says doubles */
    void *stream;         /* CUDA: the cudaStream_t to launch on, without waiting; else NULL */
} sl_custom_call;

typedef struct sl_custom_op {
    const char *name;
    /* The result's shape from the inputs' (a batched one begins with SL_BATCH). Returns NULL, or what is
     * wrong in a sentence. NULL: the shape of input 0. */
    const char *(*shape)(const sl_shape *in, int n_in, const void *data, sl_shape *out);
    /* On the CPU, one call on one thread. `doubles`: it looks at in_double; otherwise the reference device,
     * which computes in double, converts to float and back. NULL: not on the CPU. */
    void (*cpu)(const sl_custom_call *call);
    bool doubles;
    /* Launches kernels on call->stream. It may be captured once and replayed each step: it must not allocate,
     * wait, or look at values. NULL: not on CUDA. */
    void (*cuda)(const sl_custom_call *call);
    /* Reverse mode: given y and its cotangent dy, builds the cotangents dx[i] of the inputs from nodes,
     * custom ones too (sl_node_input(y, i) is input i). What stays NULL gets none. NULL: cannot be trained
     * through. */
    void (*vjp)(sl_node *y, sl_node *dy, sl_node **dx);
    /* Forward mode: given the tangents of the inputs (NULL: zero), builds that of y. NULL: no forward mode.
     */
    sl_node *(*jvp)(sl_node *y, sl_node *const *tx);
} sl_custom_op;

/* Appends y = op(in). `op` and `data` must live as long as the context. */
SL_API sl_node *sl_custom(const sl_custom_op *op, const void *data, sl_node *const *in, int n_in);

#ifdef __cplusplus
}
#endif
#endif
