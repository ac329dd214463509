/* What makes a training step one list of nodes: drawing a batch, the learning rate, the update, the records.
 */
#include "ops/ops.h"

static bool
infer_draw(sl_node *node) /* images [samples, …], labels [samples] or targets [samples, k], step */
{
    sl_shape x = node->in[0]->shape, t = node->in[1]->shape;
    x.dim[0] = t.dim[0] = SL_BATCH;
    sl_set_output(node, 0, SL_FLOAT, x);
    sl_set_output(node, 1, node->in[1]->dtype, t);
    return sl_set_output(node, 2, SL_INT, (sl_shape){1, {1}});
}

static bool infer_scalar(sl_node *node)
{
    return sl_set_output(node, 0, SL_FLOAT, (sl_shape){1, {1}});
}

static bool infer_nothing(sl_node *node)
{
    (void)node;
    return true;
}

const sl_op_rules sl_rules_DRAW_BATCH = {.attr_size = sizeof(sl_draw_attr), .infer = infer_draw};
const sl_op_rules sl_rules_CLIP_SCALE = {.attr_size = sizeof(sl_clip_scale_attr), .infer = infer_scalar};
const sl_op_rules sl_rules_UPDATE = {.attr_size = sizeof(sl_update_attr), .infer = infer_nothing};
const sl_op_rules sl_rules_RECORD = {.infer = infer_nothing};
const sl_op_rules sl_rules_ADVANCE = {.attr_size = sizeof(sl_advance_attr), .infer = infer_scalar};
