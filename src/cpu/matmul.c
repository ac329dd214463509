/* Matrix products, as they are defined. */
#include "cpu/product_shape.h"
#include "cpu/product_sum.h"

typedef struct matmul_job {
    matmul_shape shape;
    const real *a, *b;
    real *c;
} matmul_job;

static void matmul_rows(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const matmul_job *job = arg;
    const matmul_shape s = job->shape;
    for (int64_t i = first; i < last; i++)
        for (int64_t j = 0; j < s.n; j++) {
            product_sum sum;
            product_clear(&sum);
            for (int64_t k = 0; k < s.k; k++)
                product_add(&sum, job->a[i * s.a_row + k * s.a_step], job->b[k * s.b_step + j * s.b_column]);
            job->c[i * s.n + j] = product_total(&sum);
        }
}

static void matmul(const sl_call *call)
{
    matmul_job job = {matmul_shape_of(call, true), sl_in(call, 0), sl_in(call, 1), sl_out(call, 0)};
    sl_parallel(call, matmul_rows, &job, job.shape.m, 1);
}

static void matmul_bias_activation(const sl_call *call)
{
    const sl_matmul_fused_attr *attr = call->attr;
    const matmul_shape s = matmul_shape_of(call, false);
    matmul_job job = {s, sl_in(call, 0), sl_in(call, 1), sl_out(call, 0)};
    sl_parallel(call, matmul_rows, &job, s.m, 1);
    product_epilogue(call, &attr->activation, s.m, s.n);
}

extern const sl_kernel SL_KERNELS(matmul)[];
const sl_kernel SL_KERNELS(matmul)[] = {
    {SL_OP_MATMUL, "reference", NULL, NULL, matmul},
    {SL_OP_MATMUL_BIAS_ACTIVATION, "reference", NULL, NULL, matmul_bias_activation},
    {0},
};
