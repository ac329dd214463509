/* Each worker has two gates, each on its own cache lines: one on which it waits for a job, one on which the
 * caller waits for its end. A gate holds the number of the last job that passed it. Whoever waits spins for a
 * bounded time and then sleeps, so that a pool at rest costs nothing and two pools on the same cores do not
 * starve each other.
 *
 * A job is cut into one share for each thread, the same one each time, so that a thread finds in its caches
 * what it left there, and a share into a few pieces. Whoever is done with its own share takes pieces of the
 * others': a thread that comes late, or whose core is busy with something else, then costs little more than
 * its help. The caller, when no piece is left, dismisses the workers that have not come at all. */
#define _POSIX_C_SOURCE 200809L
#include "cpu/threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE__)
#    include <xmmintrin.h>
#endif

#define SL_LINE         64
#define SL_SPIN_NS      50000 /* longer than the gaps between kernels, shorter than a time slice */
#define SL_SPIN_PAUSES  32    /* between two looks at the clock */
#define SL_MXCSR_NORMAL 0x1f80
#define SL_PIECES       4 /* of a share, at most */

typedef struct gate {
    _Alignas(SL_LINE) atomic_uint passed;
    _Alignas(SL_LINE) atomic_bool asleep;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} gate;

typedef struct worker {
    gate job, done;
    sl_pool *pool;
    pthread_t thread;
    int number;                            /* 1 and up; the caller is worker 0 */
    unsigned generation;                   /* of its last job; the caller's count */
    bool dismissed;                        /* from it: the worker does not come any more */
    _Alignas(SL_LINE) atomic_uint claimed; /* the last job that it came to, or was dismissed from */
    _Alignas(SL_LINE) atomic_int taken;    /* pieces of its share */
} worker;

struct sl_pool {
    int threads;
    bool spin;
    sl_task *task; /* NULL: the workers are to leave */
    void *arg;
    int64_t n, share, piece; /* thread i's share is [i·share, (i+1)·share), its pieces at least `piece` */
    int parts;               /* threads that have a share */
    worker *workers;         /* [threads]; of the first, the caller, only `taken` is used */
};

static void rest(void)
{
#if defined(__SSE__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool gate_open(gate *g)
{
    if (pthread_mutex_init(&g->mutex, NULL) != 0) return false;
    if (pthread_cond_init(&g->wake, NULL) != 0) {
        pthread_mutex_destroy(&g->mutex);
        return false;
    }
    atomic_init(&g->passed, 0);
    atomic_init(&g->asleep, false);
    return true;
}

static void gate_close(gate *g)
{
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->mutex);
}

/* The store of `passed` and the load of `asleep` here, and the store of `asleep` and the load of `passed` in
 * gate_wait, are sequentially consistent: at least one side sees the other. */
static void gate_pass(gate *g, unsigned generation)
{
    atomic_store(&g->passed, generation);
    if (!atomic_load(&g->asleep)) return;
    pthread_mutex_lock(&g->mutex);
    pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->mutex);
}

static bool gate_arrived(gate *g, unsigned number, bool other, unsigned *passed)
{
    *passed = atomic_load(&g->passed);
    return (*passed == number) != other;
}

/* Waits until job `number` has passed, or with `other` any but it; returns which. */
static unsigned gate_wait(gate *g, unsigned number, bool other, bool spin)
{
    unsigned passed;
    if (gate_arrived(g, number, other, &passed)) return passed;
    const int64_t end = spin ? now_ns() + SL_SPIN_NS : 0;
    while (spin && now_ns() < end)
        for (int i = 0; i < SL_SPIN_PAUSES; i++) {
            rest();
            if (gate_arrived(g, number, other, &passed)) return passed;
        }
    pthread_mutex_lock(&g->mutex);
    atomic_store(&g->asleep, true);
    while (!gate_arrived(g, number, other, &passed)) pthread_cond_wait(&g->wake, &g->mutex);
    atomic_store(&g->asleep, false);
    pthread_mutex_unlock(&g->mutex);
    return passed;
}

/* What is left of thread `number`'s share, by `runner`. */
static void run_share(const sl_pool *pool, int number, int runner)
{
    const int64_t begin = number * pool->share, left = pool->n - begin;
    const int64_t size = left < pool->share ? left : pool->share, fitting = size / pool->piece;
    const int64_t pieces = fitting < 1 ? 1 : fitting < SL_PIECES ? fitting : SL_PIECES;
    for (int64_t i; (i = atomic_fetch_add(&pool->workers[number].taken, 1)) < pieces;)
        pool->task(pool->arg, begin + size * i / pieces, begin + size * (i + 1) / pieces, runner);
}

/* The runner's own share, then what is left of those after it. */
static void run_shares(const sl_pool *pool, int runner)
{
    for (int i = 0; i < pool->parts; i++) run_share(pool, (runner + i) % pool->parts, runner);
}

/* True for one of the two who may settle whether the worker takes part in job `generation`. All before it are
 * settled already. */
static bool claim(worker *w, unsigned generation)
{
    unsigned before = generation - 1;
    return atomic_compare_exchange_strong(&w->claimed, &before, generation);
}

static void *work(void *arg)
{
    worker *self = arg;
    const sl_pool *pool = self->pool;
#if defined(__SSE__)
    _mm_setcsr(SL_MXCSR_NORMAL); /* a thread inherits its creator's; subnormal numbers must count here */
#endif
    for (unsigned generation = 0;;) {
        generation = gate_wait(&self->job, generation, true, pool->spin);
        if (!claim(self, generation)) continue; /* the job may be over: nothing of it may be read */
        if (!pool->task) return NULL;
        run_shares(pool, self->number);
        gate_pass(&self->done, generation);
    }
}

/* Starts worker `number`; false where the system refuses. */
static bool start(sl_pool *pool, int number)
{
    worker *w = &pool->workers[number];
    w->pool = pool;
    w->number = number;
    w->generation = 0;
    atomic_init(&w->claimed, 0);
    atomic_init(&w->taken, 0);
    if (!gate_open(&w->job)) return false;
    if (gate_open(&w->done)) {
        if (pthread_create(&w->thread, NULL, work, w) == 0) return true;
        gate_close(&w->done);
    }
    gate_close(&w->job);
    return false;
}

sl_pool *sl_pool_open(int threads)
{
    if (threads < 1) threads = 1;
    sl_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->workers = aligned_alloc(SL_LINE, (size_t)threads * sizeof *pool->workers);
    if (!pool->workers) {
        free(pool);
        return NULL;
    }
    atomic_init(&pool->workers[0].taken, 0);
    pool->spin = sysconf(_SC_NPROCESSORS_ONLN) >= threads;
    /* Signals are for the program's own threads: a handler must not run in ours. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pool->threads = 1; pool->threads < threads; pool->threads++)
        if (!start(pool, pool->threads)) break;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool;
}

/* Hands the job to the workers below `parts`; the others sleep on. */
static void post(sl_pool *pool, int parts)
{
    for (int i = 1; i < parts; i++) {
        worker *w = &pool->workers[i];
        gate_pass(&w->job, ++w->generation);
    }
}

void sl_pool_close(sl_pool *pool)
{
    if (!pool) return;
    pool->task = NULL;
    post(pool, pool->threads);
    for (int i = 1; i < pool->threads; i++) {
        pthread_join(pool->workers[i].thread, NULL);
        gate_close(&pool->workers[i].job);
        gate_close(&pool->workers[i].done);
    }
    free(pool->workers);
    free(pool);
}

int sl_pool_threads(const sl_pool *pool)
{
    return pool->threads;
}

void sl_pool_run_pieces(sl_pool *pool, sl_task *task, void *arg, int64_t n, int64_t grain, int64_t piece)
{
    if (n <= 0) return;
    if (pool->threads == 1 || n <= grain) {
        task(arg, 0, n, 0);
        return;
    }
    const int64_t even = (n + pool->threads - 1) / pool->threads;
    pool->task = task;
    pool->arg = arg;
    pool->n = n;
    pool->share = even > grain ? even : grain;
    pool->parts = (int)((n + pool->share - 1) / pool->share);
    pool->piece = piece > grain ? piece : grain > 0 ? grain : 1;
    for (int i = 0; i < pool->parts; i++)
        atomic_store_explicit(&pool->workers[i].taken, 0, memory_order_relaxed);
    post(pool, pool->parts);
    run_shares(pool, 0);

    for (int i = 1; i < pool->parts; i++) {
        worker *w = &pool->workers[i];
        w->dismissed = claim(w, w->generation);
    }
    for (int i = 1; i < pool->parts; i++) {
        worker *w = &pool->workers[i];
        if (!w->dismissed) gate_wait(&w->done, w->generation, false, pool->spin);
    }
}

void sl_pool_run(sl_pool *pool, sl_task *task, void *arg, int64_t n, int64_t grain)
{
    sl_pool_run_pieces(pool, task, arg, n, grain, grain);
}
