/* The rules of every operation, collected from src/ops/ by way of ops.def. */
#include "graph/graph.h"

#define OP(id, name, outputs, flags) extern const sl_op_rules sl_rules_##id;
#include "slope/ops.def"
#undef OP

const sl_op_rules *sl_rules(sl_op op)
{
    static const sl_op_rules *const table[] = {
#define OP(id, name, outputs, flags) &sl_rules_##id,
#include "slope/ops.def"
#undef OP
    };
    return table[op];
}
