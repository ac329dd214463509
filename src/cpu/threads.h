/* A pool of worker threads for short jobs: workers spin a bounded time for the next job, then sleep. */
#ifndef SL_CPU_THREADS_H
#define SL_CPU_THREADS_H

#include <stdint.h>

typedef struct sl_pool sl_pool;

/* `threads` in all, the caller included; fewer where the system refuses. NULL: out of memory. */
sl_pool *sl_pool_open(int threads);
void sl_pool_close(sl_pool *pool);
int sl_pool_threads(const sl_pool *pool);

/* Calls task(arg, first, last, worker) for ranges that cover [0, n), each at least `grain` long but for the
 * last one; returns when all are done. Runs in the caller alone where n <= grain. Not to be nested. A task
 * may depend on which range it got only for speed, never for results. */
typedef void sl_task(void *arg, int64_t first, int64_t last, int worker);
void sl_pool_run(sl_pool *pool, sl_task *task, void *arg, int64_t n, int64_t grain);
/* The same, but a thread's share is cut into ranges no shorter than `piece`: for a task that sets something
 * up for each. */
void sl_pool_run_pieces(sl_pool *pool, sl_task *task, void *arg, int64_t n, int64_t grain, int64_t piece);
#endif
