/* The graph from the inside. */
#ifndef SL_GRAPH_GRAPH_H
#define SL_GRAPH_GRAPH_H

#include "backend.h"
#include "core/context.h"
#include "slope/graph.h"

#define SL_MAX_OUTPUTS 3
#define SL_MAX_INPUTS  16 /* of a node that is differentiated or copied */

/* Something that outlives a step: a parameter, a statistic, an optimiser's state, a counter, a data set. */
typedef enum sl_variable_kind {
    SL_VARIABLE_PARAMETER, /* learned; all lie in one block */
    SL_VARIABLE_STATE,     /* saved with the model */
    SL_VARIABLE_SCRATCH,   /* zero at the start, not saved (gradient block, history) */
    SL_VARIABLE_DATA,      /* host data, bound or copied */
} sl_variable_kind;

typedef struct sl_variable {
    const char *name;
    sl_variable_kind kind;
    sl_shape shape;
    sl_dtype dtype;
    sl_init init;
    float gain;  /* for SL_INIT_HE… and orthogonal */
    double fill; /* STATE, SCRATCH: the value at the start */
    bool decay;
    float l2;
    uint32_t stream; /* of its random numbers */
    int64_t fan_in, fan_out;
    const void *host; /* DATA */
} sl_variable;

struct sl_node {
    sl_graph *graph;
    int id;   /* position in the graph: inputs come before */
    int rank; /* order of execution; equal to id but for fused nodes */
    sl_op op;
    int n_in;
    sl_node **in;
    sl_node *outputs[SL_MAX_OUTPUTS]; /* [0] is the node itself, the others SL_OP_OUTPUT nodes */
    int n_out;
    int output_index; /* of an SL_OP_OUTPUT node; its producer is in[0] */
    sl_shape shape;
    sl_dtype dtype;
    void *attr;
    const char *name;
    sl_variable *variable; /* VARIABLE; PACK into a fixed block */
    sl_node *fused_into;   /* the output of a fused node that took this one's place, or NULL */
};

struct sl_graph {
    sl_owned owned;
    sl_context *ctx;
    struct sl_block *memory; /* all of the graph's small allocations */
    sl_node **nodes;
    int n, capacity;
    uint32_t streams; /* random streams given out */
    sl_node *step;    /* int counter that dropout reads, made when first needed */
    const char *line; /* the model line that leads from an input to line_end, or NULL */
    const sl_node *line_end;
    sl_activation line_activation;
    int activations;     /* made so far, for their names */
    int numbers[16];     /* how many layers of each kind have been named */
    sl_node *prediction; /* what the loss compares: logits or outputs */
    sl_op prediction_op; /* SOFTMAX, ACTIVATION (sigmoid) or RESHAPE (none): what makes it an answer */
};

/* What an operation knows about itself (src/ops/). */
typedef struct sl_sample_input {
    sl_shape shape;
    enum { SL_SAMPLE_ANY, SL_SAMPLE_POSITIVE, SL_SAMPLE_CLASS, SL_SAMPLE_STEP, SL_SAMPLE_DISTINCT } domain;
    int limit; /* CLASS: labels in [0, limit) */
} sl_sample_input;

typedef struct sl_sample { /* a call to test and measure; the list ends with n_in == 0 */
    int n_in;
    sl_sample_input in[6];
    const void *attr;
} sl_sample;

typedef struct sl_op_rules {
    size_t attr_size;
    /* Checks the inputs and sets shape and dtype of every output. False after sl_node_fail. */
    bool (*infer)(sl_node *node);
    /* Given dy[k], the cotangent of output k (NULL: none), sets dx[i] for the inputs with wanted[i]. */
    void (*vjp)(sl_node *node, sl_node *const *dy, const bool *wanted, sl_node **dx);
    /* Given tx[i], the tangent of input i (NULL: zero; not all are), sets ty[k] for the outputs that have
     * one. */
    void (*jvp)(sl_node *node, sl_node *const *tx, sl_node **ty);
    /* The node's replacement when evaluating (not training); in[] are already replaced. NULL: a plain copy.
     */
    sl_node *(*evaluate)(sl_graph *graph, const sl_node *node, sl_node *const *in);
    const sl_sample *samples;
} sl_op_rules;

const sl_op_rules *sl_rules(sl_op op);
const char *sl_op_name(sl_op op);
enum { SL_FLAG_NONE = 0, SL_FLAG_LEAF = 1, SL_FLAG_VIEW = 2, SL_FLAG_INPLACE = 4, SL_FLAG_EFFECT = 8 };
int sl_op_flags(sl_op op);

/* --- build.c --- */
void *sl_graph_alloc(sl_graph *graph, size_t bytes);
const char *sl_graph_text(sl_graph *graph, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends a node: copies attr, infers. NULL where an input is NULL, an error is pending, or the shapes do not
 * fit. */
sl_node *sl_node_new(sl_graph *graph, sl_op op, const void *attr, int n_in, sl_node *const *in);
sl_node *sl_node1(sl_op op, const void *attr, sl_node *a);
sl_node *sl_node2(sl_op op, const void *attr, sl_node *a, sl_node *b);
sl_node *sl_node3(sl_op op, const void *attr, sl_node *a, sl_node *b, sl_node *c);
sl_node *sl_variable_node(sl_graph *graph, sl_variable *variable);
/* A new variable with its node; only the given members matter. */
sl_node *sl_variable_new(sl_graph *graph, const sl_variable *like);
sl_node *sl_step_node(sl_graph *graph);
/* "matmul 'dense1': …" with the shapes of the inputs; records SL_SHAPE and returns false. */
bool sl_node_fail(sl_node *node, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool sl_set_output(sl_node *node, int k, sl_dtype dtype, sl_shape shape);
static inline bool sl_batched(const sl_node *node)
{
    return node->shape.n > 0 && node->shape.dim[0] == SL_BATCH;
}

/* --- lower.c: copies what `roots` need into a new graph --- */
typedef struct sl_replacement {
    const sl_node *old;
    sl_node *new_node;
} sl_replacement;
/* roots[i] becomes its copy. Nodes in `replace` are not copied; their replacement must be in `into`.
 * copies[id], one for each node of the old graph and NULL before the call, tells what became of it. */
sl_status sl_lower(sl_graph *into, sl_node **roots, int n, bool training, const sl_replacement *replace,
                   int n_replace, sl_node **copies);

/* --- vjp.c --- */
/* As sl_gradients, but a node on which y does not depend gets NULL without an error. */
sl_status sl_differentiate(sl_node *y, sl_node *const *wrt, int n, sl_node **out);

/* --- init.c --- */
/* Gives every parameter whose initialiser is the default the one that suits the activation behind it. */
void sl_init_resolve(sl_graph *graph);
/* True where the parameter's first values are random numbers that the operation RANDOM makes. */
bool sl_init_random(sl_context *ctx, const sl_variable *variable, sl_random_attr *attr);
/* The parameter's first values, made by the host; false after sl_fail. */
bool sl_init_values(sl_context *ctx, const sl_variable *variable, float *values);

/* --- assign.c --- */
const sl_kernel *sl_find_kernel(sl_context *ctx, sl_op op); /* the back end's first; NULL: none */

/* --- store.c: the memory behind variables --- */
typedef struct sl_store sl_store;
sl_store *sl_store_new(sl_context *ctx);
void sl_store_free(sl_store *store);
/* Gives the variable memory on the device and its first value. Parameters given in one call lie in one block,
 * packed as sl_packed_count says. Variables that have memory already are skipped. */
sl_status sl_store_add(sl_store *store, sl_variable *const *variables, int n);
sl_status sl_store_initialise(sl_store *store, sl_variable *variable); /* back to its first value */
/* A variable that is another name for memory the store has: the block that starts at `data`. */
sl_status sl_store_alias(sl_store *store, const sl_variable *variable, void *data);
void *sl_store_data(const sl_store *store, const sl_variable *variable); /* NULL: none yet */
sl_status sl_store_set(sl_store *store, const sl_variable *variable, const void *host, sl_dtype dtype,
                       size_t real_size);
sl_status sl_store_get(const sl_store *store, const sl_variable *variable, void *host, size_t real_size);

/* Copies between host and device with conversion where float sizes differ. */
sl_status sl_to_device(sl_context *ctx, void *to, sl_dtype dtype, const void *host, size_t host_real,
                       int64_t count);
sl_status sl_to_host(sl_context *ctx, void *host, size_t host_real, sl_dtype dtype, const void *from,
                     int64_t count);

/* --- plan.c --- */
typedef struct sl_plan_request {
    sl_graph *graph; /* lowered; the plan takes it over and frees it */
    sl_node **roots; /* outputs to keep and effects */
    int n;
    sl_node *valid; /* int [1] computed in the graph, or NULL: the plan has its own, set by the host */
    sl_store
        *store; /* of parameters and states; must outlive the plan, which has its own for data and scratch */
    sl_plan_options options;
} sl_plan_request;
sl_plan *sl_plan_build(const sl_plan_request *request);
/* Where a lowered node's value lies on the device, NULL if it is not part of the plan. */
void *sl_plan_data(const sl_plan *plan, const sl_node *lowered);
/* A variable's memory: shared, or the plan's own (data and scratch). */
void *sl_plan_variable(const sl_plan *plan, const sl_variable *variable);
#endif
