/* Running a plan call by call and telling what came out. */
#ifndef SL_NN_TRACE_H
#define SL_NN_TRACE_H

#include "graph/plan.h"
#include "slope/model.h"

sl_status sl_plan_trace(sl_plan *plan, sl_trace *trace, void *data);
#endif
