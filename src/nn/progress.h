/* Progress on a stream: a bar that redraws itself on a terminal, one line an epoch elsewhere. */
#ifndef SL_NN_PROGRESS_H
#define SL_NN_PROGRESS_H

#include "slope/model.h"

typedef struct sl_progress_bar sl_progress_bar;
sl_progress_bar *sl_progress_open(FILE *to); /* NULL: no memory, then nothing is shown */
void sl_progress_show(sl_progress_bar *bar, const sl_progress *progress);
void sl_progress_epoch(sl_progress_bar *bar, const sl_epoch *epoch);
void sl_progress_close(sl_progress_bar *bar);
#endif
