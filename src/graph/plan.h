/* A plan from the inside: what fuse, assign and place make, and run uses. */
#ifndef SL_GRAPH_PLAN_H
#define SL_GRAPH_PLAN_H

#include "graph/graph.h"

/* A stretch of memory that one or more nodes use in turn (views, in-place operations) or a call's workspace.
 */
typedef struct sl_buffer {
    int64_t bytes;
    int first, last; /* positions in `order` between which it is alive */
    int64_t offset;  /* in the arena, -1 where it has memory of its own */
    void *data;
} sl_buffer;

typedef struct sl_fusion_note {
    const char *name; /* of the fusion */
    const char *node; /* what it fused */
} sl_fusion_note;

struct sl_plan {
    sl_owned owned;
    sl_context *ctx;
    sl_graph *graph;
    sl_store *store, *own; /* shared: parameters and states; its own: data and scratch */
    bool owns_store;
    sl_plan_options options;
    int64_t batch;
    bool guarded;

    sl_node **roots;
    int n_roots;
    sl_node **order; /* nodes in order of execution, leaves and outputs included */
    int n_order;
    int *position; /* by node id, -1: not part of the plan */

    sl_buffer *buffers;
    int n_buffers, buffer_capacity;
    int *buffer_of; /* by node id; -1: none (variables, packed) */
    void **data;    /* by node id */

    sl_call *calls;
    sl_node **call_nodes;
    int *call_buffer; /* the workspace's buffer, -1: none */
    int n_calls;
    sl_tensor *tensors;

    char *arena;
    int64_t arena_bytes, live_bytes;
    sl_node *valid; /* computed in the graph, or NULL */
    int32_t *valid_data;
    bool owns_valid;
    sl_fusion_note *fusions;
    int n_fusions;
    void *handle; /* the back end's */

    /* plans made by sl_plan_new: what became of the user's nodes */
    sl_graph *user_graph;
    sl_node **copies;
    int n_copies;
};

bool sl_plan_collect(sl_plan *plan);                             /* order and position from the roots */
bool sl_plan_fuse(sl_plan *plan);                                /* fuse.c */
bool sl_plan_assign(sl_plan *plan);                              /* assign.c: calls and kernels */
bool sl_plan_supports(const sl_plan *plan, const sl_node *node); /* true: the back end has a kernel */
bool sl_plan_place(sl_plan *plan);                               /* place.c: buffers, arena, addresses */
int sl_plan_buffer(sl_plan *plan, int64_t bytes, int first, int last); /* -1: out of memory */
sl_shape sl_concrete(const sl_plan *plan, sl_shape shape);             /* the batch filled in */
int64_t sl_node_bytes(const sl_plan *plan, const sl_node *node);
/* Multiplications and additions of a product; 0 for another operation. Padding is not counted: it is skipped.
 */
double sl_call_operations(const sl_call *call);
#endif
