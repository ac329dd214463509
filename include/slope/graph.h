/* The graph: nodes that describe a computation. A node is one tensor and the operation that makes it.
 *
 * Builders append nodes and check shapes at once. Given a NULL node, or while an error is pending, they
 * return NULL. */
#ifndef SLOPE_GRAPH_H
#define SLOPE_GRAPH_H

#include <stdio.h>

#include "slope/activation.h"
#include "slope/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sl_graph sl_graph;
typedef struct sl_node sl_node;

SL_API sl_graph *sl_graph_new(sl_context *ctx);
SL_API void sl_graph_free(sl_graph *graph); /* with all its nodes; models made from it live on */

/* A batched float input [n, dims…]; dims end with 0. An image has height, width, channels. */
SL_API sl_node *sl_input_dims(sl_graph *graph, const char *name, const int64_t *dims);
/* A batched int32 input [n]: class labels. */
SL_API sl_node *sl_labels(sl_graph *graph, const char *name);

/* How a parameter starts. */
typedef enum sl_init_kind {
    SL_INIT_DEFAULT, /* by the activation that follows: He for the ReLU family, LeCun for SELU, Xavier
                        otherwise */
    SL_INIT_ZEROS,
    SL_INIT_CONSTANT,      /* value */
    SL_INIT_NORMAL,        /* N(0, value²), default 0.01 */
    SL_INIT_UNIFORM,       /* [-value, value), default 0.05 */
    SL_INIT_XAVIER,        /* uniform ±sqrt(6/(fan_in+fan_out)), Glorot & Bengio 2010 */
    SL_INIT_XAVIER_NORMAL, /* N(0, 2/(fan_in+fan_out)) */
    SL_INIT_HE,            /* N(0, gain²/fan_in), gain² = 2 for ReLU, He et al. 2015 */
    SL_INIT_HE_UNIFORM,    /* uniform ±sqrt(3·gain²/fan_in) */
    SL_INIT_LECUN,         /* N(0, 1/fan_in), LeCun et al. 1998 */
    SL_INIT_ORTHOGONAL,    /* Q of a QR decomposition, times the gain, Saxe et al. 2014 */
} sl_init_kind;

typedef struct sl_init {
    sl_init_kind kind;
    float value;
} sl_init;
/* "he", "normal(0.02)", … An unknown text gives an error that lists what exists. */
SL_API sl_init sl_init_parse(sl_context *ctx, const char *text);

/* A learned parameter. Weights are [in, out]; convolution kernels [height, width, in, out]. */
typedef struct sl_parameter_options {
    sl_init init;
    float l2;   /* adds ½·l2·Σw² to what is minimised */
    bool decay; /* whether the optimiser's weight decay applies */
    int end_;
} sl_parameter_options;
SL_API sl_node *sl_parameter_with(sl_graph *graph, const char *name, sl_shape shape,
                                  const sl_parameter_options *options);

/* A tensor filled with one value. */
SL_API sl_node *sl_constant(sl_graph *graph, sl_shape shape, double value);

SL_API sl_shape sl_node_shape(const sl_node *node); /* a batched node's first dimension is SL_BATCH */
SL_API const char *sl_node_name(const sl_node *node);
SL_API void sl_node_rename(sl_node *node, const char *name);
SL_API sl_context *sl_node_context(const sl_node *node); /* NULL for NULL */

/* Node number i in the order of building, NULL past the last; the name of its operation ("matmul"; "variable"
 * for parameters and statistics); its k-th input, NULL past the last. */
SL_API sl_node *sl_graph_node(const sl_graph *graph, int i);
SL_API const char *sl_node_operation(const sl_node *node);
SL_API sl_node *sl_node_input(const sl_node *node, int k);

/* Reverse mode: appends nodes that compute d y / d wrt[i] into out[i], for a scalar y. A node on which y does
 * not depend gets NULL and an error. Intermediate adjoints can be asked for like any other: wrt may hold any
 * node. */
SL_API sl_status sl_gradients(sl_node *y, sl_node *const *wrt, int n, sl_node **out);
SL_API sl_node *sl_gradient(sl_node *y, sl_node *wrt);

/* Forward mode: appends nodes that compute the derivative of each y[i] along a direction into out[i], the sum
 * over k of dy[i]/dwrt[k] times along[k] (a Jacobian-vector product). along[k] is a node of wrt[k]'s shape;
 * wrt may hold any node. A y that does not depend on wrt gets NULL and an error. Applied to gradients it
 * gives Hessian-vector products. */
SL_API sl_status sl_jvp(sl_node *const *y, int n_y, sl_node *const *wrt, sl_node *const *along, int n_wrt,
                        sl_node **out);

/* One line a node: number, operation, name, shape, inputs. */
SL_API void sl_graph_print(const sl_graph *graph, FILE *to);

/* --- running a graph by hand --- */

typedef struct sl_plan sl_plan;
typedef struct sl_plan_options {
    int batch;              /* default 1 */
    bool training;          /* dropout and batch norm as in training */
    bool no_fuse;           /* keep every node as it was described */
    bool reference_kernels; /* the plain definition of each operation instead of the fast version */
    bool checked;           /* stop at the first node whose value is NaN or infinite, and name it */
    int end_;
} sl_plan_options;

/* Plans the computation of `outputs`. The plan holds its own parameters, initialised from the context's seed.
 */
SL_API sl_plan *sl_plan_new(sl_node *const *outputs, int n, const sl_plan_options *options);
SL_API void sl_plan_free(sl_plan *plan);

/* Copies values in and out. Inputs, parameters, and the plan's outputs. `count` elements, checked against the
 * shape. Values are float (sl_plan_set), double (sl_plan_set_double) or int32 on the host, whatever the
 * device uses. */
SL_API sl_status sl_plan_set(sl_plan *plan, const sl_node *node, const float *values, int64_t count);
SL_API sl_status sl_plan_set_double(sl_plan *plan, const sl_node *node, const double *values, int64_t count);
SL_API sl_status sl_plan_set_int(sl_plan *plan, const sl_node *node, const int32_t *values, int64_t count);
SL_API sl_status sl_plan_get(sl_plan *plan, const sl_node *node, float *values, int64_t count);
SL_API sl_status sl_plan_get_double(sl_plan *plan, const sl_node *node, double *values, int64_t count);
SL_API sl_status sl_plan_set_valid(sl_plan *plan, int samples); /* the first `samples` of the batch count */
SL_API sl_status sl_plan_run(sl_plan *plan);

/* Nodes in order of execution with shapes, bytes, offsets, lifetimes, kernels and, on CUDA, launches; then
 * fusions and totals. */
SL_API void sl_plan_print(const sl_plan *plan, FILE *to);
typedef struct sl_plan_info {
    int calls, fusions;
    int64_t arena_bytes, live_bytes; /* the arena, and the largest sum of tensors alive at once */
    int launches;                    /* of a run, on CUDA; 0 elsewhere, where nothing is launched */
} sl_plan_info;
SL_API sl_plan_info sl_plan_describe(const sl_plan *plan);

/* One call of a plan by itself, for benchmarks. The texts live as long as the plan. */
typedef struct sl_call_time {
    const char *node, *operation, *kernel; /* "dense1", "matmul_bias_activation", "blocked" */
    double seconds;                        /* of one call, the mean of the repeats */
    double flops; /* multiplications and additions of a product or convolution, 0 elsewhere */
    double bytes; /* of the tensors that it reads and writes, each counted once */
} sl_call_time;
/* Runs the calls in order, each `repeats` times before the next, waiting for the device in between, and fills
 * calls[sl_plan_describe(plan).calls]. Operations that work in place are then done `repeats` times: run the
 * plan once more before you read its outputs. */
SL_API sl_status sl_plan_time(sl_plan *plan, int repeats, sl_call_time *calls);

#ifdef __cplusplus
}
template <typename... Dims> inline sl_node *sl_input(sl_graph *graph, const char *name, Dims... dims)
{
    const int64_t all[] = {static_cast<int64_t>(dims)..., 0};
    return sl_input_dims(graph, name, all);
}
inline sl_node *sl_parameter(sl_graph *graph, const char *name, sl_shape shape,
                             const sl_parameter_options &options = {})
{
    return sl_parameter_with(graph, name, shape, &options);
}
#else
#    define sl_input(graph, name, ...) sl_input_dims((graph), (name), (const int64_t[]){__VA_ARGS__, 0})
#    define sl_dims(...)                                                                                     \
        ((sl_shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})
#    define sl_parameter(graph, name, ...) SL_PARAMETER_(graph, name, __VA_ARGS__, .end_ = 0)
#    define SL_PARAMETER_(graph, name, shape, ...)                                                           \
        sl_parameter_with((graph), (name), (shape), &(sl_parameter_options){__VA_ARGS__})
#endif
#endif
