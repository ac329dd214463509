/* One tile function: ROWS rows by VECTORS vectors. All bounds are literals, so that every loop but those over
 * k is unrolled and the sums stay in registers. */
#define TILE_NAME_(r, v) tile_##r##x##v
#define TILE_NAME(r, v)  TILE_NAME_(r, v)
#define EACH_ROW         _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++)
#define EACH_VECTOR      _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)
#define WIDTH            (VECTORS * TILE_LANES)
/* The terms of one k: b's row at b, a's elements at i. */
#define ADD_TERMS(taken)                                                                                     \
    {                                                                                                        \
        tile_vec factor[VECTORS];                                                                            \
        EACH_VECTOR factor[v] = tile_load(b + v * TILE_LANES);                                               \
        EACH_ROW if (taken)                                                                                  \
        {                                                                                                    \
            const tile_vec same = {TILE_SAME(row[r][i])};                                                    \
            EACH_VECTOR tile_fma(&sum[r][v], &same, &factor[v]);                                             \
        }                                                                                                    \
    }
#define PACK_ROW                                                                                             \
    EACH_VECTOR tile_store(pack + v * TILE_LANES, tile_load(b + v * TILE_LANES));                            \
    __builtin_prefetch(b + TILE_AHEAD * b_step)

static void TILE_NAME(ROWS, VECTORS)(const tile *t, const float *const *a, float *const *out)
{
    tile_vec sum[ROWS][VECTORS];
    const float *row[ROWS];
    EACH_ROW
    {
        row[r] = a[r];
        EACH_VECTOR sum[r][v] = (tile_vec){0};
    }
    const int64_t a_step = t->a_step, b_step = t->b_step;
    for (const tile_run *run = t->runs, *end = run + t->n_runs; run < end; run++) {
        const float *b = t->b + run->k * b_step;
        int64_t i = run->a;
        const uint32_t rows = run->rows;
        if (rows != TILE_ALL) {
#pragma GCC unroll 1
            for (int64_t n = run->n; n > 0; n--, i += a_step, b += b_step) ADD_TERMS(rows >> r & 1)
        } else if (t->pack) {
            float *pack = t->pack + run->k * WIDTH;
#pragma GCC unroll 1
            for (int64_t n = run->n; n > 0; n--, i += a_step, b += b_step, pack += WIDTH) {
                PACK_ROW;
                ADD_TERMS(true)
            }
        } else {
#pragma GCC unroll 4
            for (int64_t n = run->n; n > 0; n--, i += a_step, b += b_step) ADD_TERMS(true)
        }
    }
    const float *b = t->b + t->first_k * b_step;
#pragma GCC unroll 1
    for (const int64_t *step = t->steps, *end = step + t->n_steps; step < end; step++, b += b_step) {
        const int64_t i = *step;
        ADD_TERMS(true)
    }
#pragma GCC unroll 1
    for (uint64_t carry = t->carry; carry; carry &= carry - 1) {
        const float *level = t->levels + __builtin_ctzll(carry) * t->level_stride;
        EACH_ROW EACH_VECTOR sum[r][v] = tile_load(level + r * WIDTH + v * TILE_LANES) + sum[r][v];
    }
    if (t->store >= 0) {
        float *level = t->levels + t->store * t->level_stride;
        EACH_ROW EACH_VECTOR tile_store(level + r * WIDTH + v * TILE_LANES, sum[r][v]);
    } else if (t->columns == WIDTH) {
        EACH_ROW EACH_VECTOR tile_store(out[r] + t->column + v * TILE_LANES, sum[r][v]);
    } else {
        float line[WIDTH];
        EACH_ROW
        {
            EACH_VECTOR tile_store(line + v * TILE_LANES, sum[r][v]);
            memcpy(out[r] + t->column, line, (size_t)t->columns * sizeof *line);
        }
    }
}
#undef PACK_ROW
#undef ADD_TERMS
#undef WIDTH
#undef EACH_VECTOR
#undef EACH_ROW
#undef TILE_NAME
#undef TILE_NAME_
#undef VECTORS
