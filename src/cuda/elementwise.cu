/* Operations on every element, with broadcasting; fills and copies. Bytes per element: one input 8, two
 * inputs 12 (8 where one of them repeats), a fill 4. */
#include "cuda/elementwise.cuh"

#include "core/walk.h"

/* Types too: those of two files may have one name. */
namespace
{

/* --- one input --- */

template <class Op> struct unary {
    typedef sl_no_column Column;
    typedef sl_vec<4> Raw;
    const float *x;
    float *y;
    Op op;
    __device__ __forceinline__ Column at(int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ Raw load(int64_t i, int64_t end) const
    {
        return sl_vec_load<4>(x, i, end);
    }
    __device__ __forceinline__ void run(Column, Raw r, int64_t i, int64_t end) const
    {
#pragma unroll
        for (int k = 0; k < 4; k++) r.v[k] = op(r.v[k]);
        sl_vec_store<4>(y, i, end, r);
    }
};

/* u: the element, scale and shift: the attribute's. */
#define UNARY(name, formula)                                                                                 \
    struct name##_op {                                                                                       \
        float scale, shift;                                                                                  \
        __device__ __forceinline__ float operator()(float u) const                                           \
        {                                                                                                    \
            return formula;                                                                                  \
        }                                                                                                    \
    };                                                                                                       \
    static void name(const sl_call *call)                                                                    \
    {                                                                                                        \
        const sl_affine_attr *attr = static_cast<const sl_affine_attr *>(call->attr);                        \
        const name##_op op = {attr ? (float)attr->scale : 1, attr ? (float)attr->shift : 0};                 \
        const unary<name##_op> f = {sl_in(call, 0), sl_out(call, 0), op};                                    \
        sl_each(call, f, sl_shape_count(call->out[0].shape), 1);                                             \
    }

UNARY(affine, (scale * u) + shift)
UNARY(exponential, r_exp(u))
UNARY(logarithm, r_log(u))
UNARY(reciprocal, 1.0f / u)
UNARY(square, (u * u))
UNARY(root, r_sqrt(u))
UNARY(clip, (u < scale) ? scale : (u > shift) ? shift : u)

/* --- two inputs --- */

/* Both inputs as long as the output, or single values. */
template <class Op> struct together {
    struct Raw {
        sl_vec<4> a, b;
    };
    typedef sl_no_column Column;
    const float *a, *b;
    float *y;
    bool a_wide, b_wide;
    __device__ __forceinline__ Column at(int64_t) const
    {
        return {};
    }
    __device__ __forceinline__ sl_vec<4> input(const float *p, bool wide, int64_t i, int64_t end) const
    {
        if (wide) return sl_vec_load<4>(p, i, end);
        const float same = *p;
        return {{same, same, same, same}};
    }
    __device__ __forceinline__ Raw load(int64_t i, int64_t end) const
    {
        return {input(a, a_wide, i, end), input(b, b_wide, i, end)};
    }
    __device__ __forceinline__ void run(Column, const Raw &r, int64_t i, int64_t end) const
    {
        sl_vec<4> out;
#pragma unroll
        for (int k = 0; k < 4; k++) out.v[k] = Op::of(r.a.v[k], r.b.v[k]);
        sl_vec_store<4>(y, i, end, out);
    }
};

/* Any walk. V elements at a time, which lie in one stretch of the fast dimension; Index holds every
 * element's. */
template <class Op, int V, class Index>
static __global__ void __launch_bounds__(SL_BLOCK)
    walk_kernel(const __grid_constant__ sl_walk w, const float *a, const float *b, float *y, int64_t count)
{
    sl_cuda_begin();
    const int fast = w.n - 1;
    for (int64_t i = V * sl_cuda_thread(); i < count; i += V * sl_cuda_threads()) {
        Index rest = (Index)i;
        int64_t offset_a = 0, offset_b = 0;
        for (int d = fast; d >= 0; d--) {
            const Index size = (Index)w.dim[d], outer = rest / size, at = rest - outer * size;
            offset_a += (int64_t)at * w.a[d];
            offset_b += (int64_t)at * w.b[d];
            rest = outer;
        }
        sl_vec<V> u, v;
        if (w.a[fast]) u = sl_vec_load<V>(a, offset_a, offset_a + V);
        if (w.b[fast]) v = sl_vec_load<V>(b, offset_b, offset_b + V);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (!w.a[fast]) u.v[k] = a[offset_a];
            if (!w.b[fast]) v.v[k] = b[offset_b];
            u.v[k] = Op::of(u.v[k], v.v[k]);
        }
        sl_vec_store<V>(y, i, i + V, u);
    }
}

template <class Op, int V>
static void launch_walk(const sl_call *call, const sl_walk &w, const float *a, const float *b, int64_t count)
{
    const unsigned blocks = sl_cuda_grid(call, count, V * SL_BLOCK, SL_WAVES);
    if (count <= UINT32_MAX)
        SL_LAUNCH((walk_kernel<Op, V, uint32_t>), blocks, SL_BLOCK, 0, call, w, a, b, sl_out(call, 0), count);
    else
        SL_LAUNCH((walk_kernel<Op, V, uint64_t>), blocks, SL_BLOCK, 0, call, w, a, b, sl_out(call, 0), count);
}

template <class Op> static void run_binary(const sl_call *call, const sl_tensor *in_a, const sl_tensor *in_b)
{
    const sl_shape out = call->out[0].shape;
    const sl_walk w = sl_walk_of(in_a->shape, in_b->shape, out);
    const int64_t count = sl_shape_count(out);
    const float *a = static_cast<const float *>(in_a->data), *b = static_cast<const float *>(in_b->data);
    if (count == 0) return;
    if (w.n == 1) {
        const together<Op> f = {a, b, sl_out(call, 0), w.a[0] != 0, w.b[0] != 0};
        sl_each(call, f, count, 1);
    } else if (w.dim[w.n - 1] % 4 == 0) {
        launch_walk<Op, 4>(call, w, a, b, count);
    } else {
        launch_walk<Op, 1>(call, w, a, b, count);
    }
}

#define BINARY(name, formula)                                                                                \
    struct name##_op {                                                                                       \
        static __device__ __forceinline__ float of(float u, float v)                                         \
        {                                                                                                    \
            return formula;                                                                                  \
        }                                                                                                    \
    };                                                                                                       \
    static void name(const sl_call *call)                                                                    \
    {                                                                                                        \
        run_binary<name##_op>(call, &call->in[0], &call->in[1]);                                             \
    }

BINARY(add, u + v)
BINARY(sub, u - v)
BINARY(mul, (u * v))
BINARY(divide, u / v)

struct first_op {
    static __device__ __forceinline__ float of(float u, float)
    {
        return u;
    }
};

static void broadcast(const sl_call *call)
{
    run_binary<first_op>(call, &call->in[0], &call->in[0]);
}

/* --- fills and copies --- */

template <class T>
static __global__ void __launch_bounds__(SL_BLOCK) fill_kernel(T *y, T value, int64_t count)
{
    sl_cuda_begin();
    for (int64_t i = sl_cuda_thread(); i < count; i += sl_cuda_threads()) y[i] = value;
}

static void fill(const sl_call *call)
{
    const sl_shape_attr *attr = static_cast<const sl_shape_attr *>(call->attr);
    const int64_t count = sl_shape_count(call->out[0].shape);
    if (count == 0) return;
    const unsigned blocks = sl_cuda_grid(call, count, SL_BLOCK, SL_WAVES);
    if (call->out[0].dtype == SL_INT)
        SL_LAUNCH((fill_kernel<int32_t>), blocks, SL_BLOCK, 0, call,
                  static_cast<int32_t *>(call->out[0].data), (int32_t)attr->value, count);
    else
        SL_LAUNCH((fill_kernel<float>), blocks, SL_BLOCK, 0, call, sl_out(call, 0), (float)attr->value,
                  count);
}

/* Up to 64 pieces at once. `start` counts fours of elements over all pieces. */
enum { PIECES = 64 };
struct pieces {
    int n;
    struct {
        const float *from;
        float *to;
        int64_t count, start;
    } piece[PIECES];
    int64_t fours;
};

static __global__ void __launch_bounds__(SL_BLOCK) pack_kernel(const __grid_constant__ pieces p)
{
    sl_cuda_begin();
    int k = 0;
    for (int64_t four = sl_cuda_thread(); four < p.fours; four += sl_cuda_threads()) {
        while (k + 1 < p.n && p.piece[k + 1].start <= four) k++;
        const int64_t i = 4 * (four - p.piece[k].start), end = p.piece[k].count;
        sl_vec_store<4>(p.piece[k].to, i, end, sl_vec_load<4>(p.piece[k].from, i, end));
    }
}

static void launch_pack(const sl_call *call, pieces *p)
{
    if (p->n) SL_LAUNCH(pack_kernel, sl_cuda_grid(call, p->fours, SL_BLOCK, SL_WAVES), SL_BLOCK, 0, call, *p);
    p->n = 0;
    p->fours = 0;
}

static void pack(const sl_call *call)
{
    pieces p = {};
    float *to = sl_out(call, 0);
    for (int i = 0; i < call->n_in; i++) {
        const int64_t count = sl_shape_count(call->in[i].shape);
        if (call->in[i].data != to && count) {
            p.piece[p.n++] = {sl_in(call, i), to, count, p.fours};
            p.fours += (count + 3) / 4;
        }
        if (p.n == PIECES) launch_pack(call, &p);
        to += sl_packed_count(&call->in[i].shape, 1);
    }
    launch_pack(call, &p);
}

} // namespace

SL_CUDA_KERNELS(elementwise) = {
    {SL_OP_FILL, "plain", nullptr, nullptr, fill},
    {SL_OP_ADD, "fours", nullptr, nullptr, add},
    {SL_OP_SUB, "fours", nullptr, nullptr, sub},
    {SL_OP_MUL, "fours", nullptr, nullptr, mul},
    {SL_OP_DIV, "fours", nullptr, nullptr, divide},
    {SL_OP_AFFINE, "fours", nullptr, nullptr, affine},
    {SL_OP_EXP, "fours", nullptr, nullptr, exponential},
    {SL_OP_LOG, "fours", nullptr, nullptr, logarithm},
    {SL_OP_RECIPROCAL, "fours", nullptr, nullptr, reciprocal},
    {SL_OP_SQUARE, "fours", nullptr, nullptr, square},
    {SL_OP_SQRT, "fours", nullptr, nullptr, root},
    {SL_OP_BROADCAST, "fours", nullptr, nullptr, broadcast},
    {SL_OP_CLIP, "fours", nullptr, nullptr, clip},
    {SL_OP_PACK, "pieces", nullptr, nullptr, pack},
    {},
};
