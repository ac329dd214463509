/* Optimisers from the inside. */
#ifndef SL_NN_OPTIM_H
#define SL_NN_OPTIM_H

#include "slope/optim.h"

int sl_optimizer_states(int row);                                /* state blocks */
sl_optimizer sl_optimizer_complete(sl_optimizer o);              /* the defaults filled in */
bool sl_optimizer_check(sl_context *ctx, const sl_optimizer *o); /* false after an error */
#endif
