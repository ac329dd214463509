/* The pool: every index once, whatever the sizes; workers that sleep wake; subnormal numbers count in every
 * thread. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#if defined(__SSE__)
#    include <xmmintrin.h>
#endif

#include "cpu/threads.h"

enum { MOST = 1000, MOST_THREADS = 7 };

typedef struct record {
    int hits[MOST];
    int64_t shortest[MOST_THREADS]; /* of each worker's ranges that do not end at n */
    int64_t n;
    int calls[MOST_THREADS];
    pthread_t thread[MOST_THREADS];
} record;

static void mark(void *arg, int64_t first, int64_t last, int worker)
{
    record *r = arg;
    if (r->calls[worker]++ == 0) r->shortest[worker] = MOST;
    if (last < r->n && last - first < r->shortest[worker]) r->shortest[worker] = last - first;
    r->thread[worker] = pthread_self();
    for (int64_t i = first; i < last; i++) r->hits[i]++;
}

static void covers_everything(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 3, 5, 6, 7, 8, 63, 64, 65, 999, 1000};
    static const int64_t grains[] = {1, 2, 3, 7, 64, 400, 5000};
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        sl_pool *pool = sl_pool_open(threads);
        assert_non_null(pool);
        assert_int_equal(sl_pool_threads(pool), threads);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
                const int64_t n = sizes[s], grain = grains[g];
                record r;
                memset(&r, 0, sizeof r);
                r.n = n;
                sl_pool_run(pool, mark, &r, n, grain);
                for (int64_t i = 0; i < MOST; i++) assert_int_equal(r.hits[i], i < n);
                for (int w = 0; w < MOST_THREADS; w++) {
                    if (!r.calls[w]) continue;
                    assert_true(w < threads);
                    assert_true(r.shortest[w] >= (grain < MOST ? grain : MOST));
                    if (n <= grain) assert_int_equal(w, 0);
                    for (int v = 0; v < w; v++)
                        if (r.calls[v]) assert_false(pthread_equal(r.thread[v], r.thread[w]));
                }
                if (r.calls[0]) assert_true(pthread_equal(r.thread[0], pthread_self()));
            }
        sl_pool_close(pool);
    }
}

static void odd_sizes_of_pools(void **state)
{
    (void)state;
    sl_pool_close(NULL);
    for (int threads = -1; threads <= 0; threads++) {
        sl_pool *pool = sl_pool_open(threads);
        assert_int_equal(sl_pool_threads(pool), 1);
        record r;
        memset(&r, 0, sizeof r);
        sl_pool_run(pool, mark, &r, 10, 1);
        assert_int_equal(r.calls[0], 1);
        assert_int_equal(r.hits[9], 1);
        sl_pool_close(pool);
    }
}

static void add_one(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    for (int64_t i = first; i < last; i++) ((int64_t *)arg)[i]++;
}

/* Plain memory goes from one job to the next through the pool alone. Pauses let the workers fall asleep. */
static void many_jobs(void **state)
{
    (void)state;
    sl_pool *pool = sl_pool_open(3);
    int64_t count[64] = {0};
    int64_t jobs = 0;
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 500; i++, jobs++) sl_pool_run(pool, add_one, count, i % 2 ? 64 : 2, 1);
        nanosleep(&(struct timespec){0, 300000}, NULL);
        for (int i = 0; i < 64; i++) assert_int_equal(count[i], i < 2 ? jobs : jobs / 2);
    }
    sl_pool_close(pool);
}

/* Every part takes long, so each worker gets its own, and the caller falls asleep waiting for the last. */
static atomic_int helpers;
static void slow_part(void *arg, int64_t first, int64_t last, int worker)
{
    if (worker > 0) atomic_fetch_add(&helpers, 1);
    nanosleep(&(struct timespec){0, worker > 0 ? 3000000 : 1000000}, NULL);
    add_one(arg, first, last, worker);
}

static void slow_workers(void **state)
{
    (void)state;
    sl_pool *pool = sl_pool_open(4);
    int64_t count[4] = {0};
    for (int i = 1; i <= 5; i++) {
        sl_pool_run(pool, slow_part, count, 4, 1);
        for (int j = 0; j < 4; j++) assert_int_equal(count[j], i);
    }
    assert_true(atomic_load(&helpers) > 0);
    sl_pool_close(pool);
}

/* Who ran each index, where the worker's own first piece takes long. */
static void stuck_part(void *arg, int64_t first, int64_t last, int worker)
{
    for (int64_t i = first; i < last; i++) ((int64_t *)arg)[i] = worker;
    nanosleep(&(struct timespec){0, worker > 0 ? 30000000 : 1000}, NULL);
}

static void shares_are_helped_out(void **state)
{
    (void)state;
    sl_pool *pool = sl_pool_open(2);
    int64_t who[8];
    sl_pool_run(pool, stuck_part, who, 8, 1);
    assert_int_equal(who[7], 0); /* the last piece of the worker's share */
    sl_pool_run_pieces(pool, stuck_part, who, 8, 1, 4);
    for (int i = 0; i < 8; i++) assert_int_equal(who[i], who[i / 4 * 4]); /* in one piece */
    sl_pool_close(pool);
}

static void two_pools(void **state)
{
    (void)state;
    sl_pool *a = sl_pool_open(2), *b = sl_pool_open(3);
    int64_t count[64] = {0};
    for (int i = 0; i < 200; i++) {
        sl_pool_run(a, add_one, count, 64, 1);
        sl_pool_run(b, add_one, count, 64, 1);
    }
    for (int i = 0; i < 64; i++) assert_int_equal(count[i], 400);
    sl_pool_close(a);
    sl_pool_close(b);
}

#if defined(__SSE__)
/* The caller dawdles, so that the workers take their parts. */
static void halve(void *arg, int64_t first, int64_t last, int worker)
{
    if (worker == 0)
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    else
        atomic_fetch_add(&helpers, 1);
    volatile float *x = arg;
    for (int64_t i = first; i < last; i++) x[i] = x[i] * 0.5f;
}

/* A thread inherits its creator's mode; the workers must not flush subnormal numbers though the creator did.
 */
static void subnormal_numbers(void **state)
{
    (void)state;
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* flush to zero, and take as zero */
    sl_pool *pool = sl_pool_open(4);
    _mm_setcsr(before);
    float x[64];
    for (int i = 0; i < 64; i++) x[i] = 0x1p-130f;
    atomic_store(&helpers, 0);
    sl_pool_run(pool, halve, x, 64, 1);
    assert_true(atomic_load(&helpers) > 0);
    for (int i = 0; i < 64; i++) assert_true(x[i] == 0x1p-131f);
    sl_pool_close(pool);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(covers_everything),
        cmocka_unit_test(odd_sizes_of_pools),
        cmocka_unit_test(many_jobs),
        cmocka_unit_test(slow_workers),
        cmocka_unit_test(shares_are_helped_out),
        cmocka_unit_test(two_pools),
#if defined(__SSE__)
        cmocka_unit_test(subnormal_numbers),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
