/* Scalar mathematics, the same bits on every machine: only fma, + - * /, sqrt, integer operations and
 * ternaries, in a fixed order. gcc vectorises every function here in a loop (with -fno-trapping-math
 * -fno-math-errno), nvcc compiles it. In double precision the same names stand for libm: the oracle.
 *
 * Worst errors over all floats stand in docs/accuracy.md. Polynomials without a source were fitted for this
 * file (weighted least squares, reweighted to the minimax error; coefficients rounded one after another). */
#ifndef SL_CORE_MATH_H
#define SL_CORE_MATH_H

#include <stdint.h>
#include <string.h>

#include "core/real.h"

#define SL_LIMIT_ANGLE R(4194304) /* of r_sin and r_cos: 2^22 */

#ifdef SL_DOUBLE
#    include "core/math_double.h"
#else

SL_FN uint32_t r_bits(float x)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}
SL_FN float r_from_bits(uint32_t bits)
{
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

SL_FN float r_abs(float x)
{
    return r_from_bits(r_bits(x) & 0x7fffffffu);
}
/* |x| with the sign of `sign`. */
SL_FN float r_copysign(float x, float sign)
{
    return r_from_bits((r_bits(x) & 0x7fffffffu) | (r_bits(sign) & 0x80000000u));
}

/* Limits of arguments. On the CPU the compiler must not know them: gcc makes one instruction of a minimum of
 * two variables, but compares and blends where one is a constant, and computes what follows twice. */
#    ifdef __CUDACC__
#        define SL_LIMIT_EXP   104.0f
#        define SL_LIMIT_EXPM1 20.0f
#        define SL_LIMIT_GAUSS 14.5f
#    else
extern const float sl_limit_exp, sl_limit_expm1, sl_limit_gauss;
#        define SL_LIMIT_EXP   sl_limit_exp
#        define SL_LIMIT_EXPM1 sl_limit_expm1
#        define SL_LIMIT_GAUSS sl_limit_gauss
#    endif

/* NaN stays. */
SL_FN float r_at_most(float x, float most)
{
    return x > most ? most : x;
}

SL_FN float r_sqrt(float x)
{
#    ifdef __CUDA_ARCH__
    return __fsqrt_rn(x);
#    else
    return __builtin_sqrtf(x);
#    endif
}

/* a·b + c rounded once, with double arithmetic: the product is exact; the sum is rounded to odd (its last bit
 * is set where it is inexact), so that rounding it to float rounds the exact value (Boldo and Melquiond
 * 2008). */
SL_FN float r_fma_emulated(float a, float b, float c)
{
    const double product = (double)a * (double)b, addend = (double)c;
    const double sum = product + addend, part = sum - product;
    const double error = (product - (sum - part)) + (addend - part); /* exact; NaN for an infinite sum */
    uint64_t bits, error_bits;
    double odd;
    __builtin_memcpy(&bits, &sum, sizeof bits);
    __builtin_memcpy(&error_bits, &error, sizeof error_bits);
    /* 1 where the error is neither 0 nor NaN. In integers, for comparisons of doubles would keep gcc from
     * vectorising with SSE2. */
    const uint64_t size = error_bits & 0x7fffffffffffffffu;
    const uint64_t inexact = ((size + 0x7fffffffffffffffu) & ~(size + 0x000fffffffffffffu)) >> 63;
    const uint64_t step = inexact & ~bits;           /* 1 where the last bit must change */
    const uint64_t down = (bits ^ error_bits) >> 63; /* towards zero where the signs differ */
    bits += step - ((step & down) << 1);
    __builtin_memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
}

SL_FN float r_fma(float a, float b, float c)
{
#    if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#    elif defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#    else
    return r_fma_emulated(a, b, c);
#    endif
}

/* 2^n for -126 <= n <= 127. */
SL_FN float r_power_of_two(int32_t n)
{
    return r_from_bits((uint32_t)(n + 127) << 23);
}

/* x = n·ln 2 + r, |r| <= ln 2 / 2: returns r, and n as float and integer. |x| < 2^20; NaN gives NaN. */
SL_FN float r_reduce_ln2(float x, float *n, int32_t *i)
{
    const float magic = 12582912.0f; /* 1.5·2^23: the sum's last bits are the rounded integer */
    const float t = r_fma(x, 1.44269504f, magic);
    *i = (int32_t)(r_bits(t) - 0x4b400000u);
    *n = t - magic;
    return r_fma(*n, -1.42860677e-6f,
                 r_fma(*n, -0.693145752f, x)); /* ln 2 in two parts, the first of 16 bits */
}

/* e^r for |r| <= ln 2 / 2 */
SL_FN float r_exp_chain(float r)
{
    float q = 1.3820999e-3f;
    q = r_fma(q, r, 8.368671e-3f);
    q = r_fma(q, r, 4.1668262e-2f);
    q = r_fma(q, r, 1.6666521e-1f);
    q = r_fma(q, r, 4.9999994e-1f);
    return r_fma(r_fma(q, r, 1.0f), r, 1.0f);
}
/* (e^r - 1 - r)/r² for |r| <= ln 2 / 2, s = r²: the same in sums of pairs. A loop over a long chain waits for
 * results, not for units. */
SL_FN float r_exp_polynomial(float r, float s)
{
    const float high = r_fma(1.3820999e-3f, s, r_fma(8.368671e-3f, r, 4.1668262e-2f));
    return r_fma(high, s, r_fma(1.6666521e-1f, r, 4.9999994e-1f));
}

/* e^-a for a >= 0: fewer operations than r_exp, and 1.02 ulp instead of 0.8. */
SL_FN float r_exp_minus(float a)
{
    /* 1.5·2^23, and what makes the last bits of t the exponent of 2^(n + 64): normal for every n here */
    const float magic = 12582912.0f + 191;
    const float c = r_at_most(a, SL_LIMIT_EXP), t = r_fma(c, -1.44269504f, magic), n = t - magic;
    const float r = -r_fma(n, 1.42860677e-6f, r_fma(n, 0.693145752f, c)), s = r * r;
    const float scale = r_from_bits(r_bits(t) << 23);
    return r_fma(scale, r_fma(r_exp_polynomial(r, s), s, r), scale) * 5.42101086e-20f;
}

/* 2^i·e^r */
SL_FN float r_exp_reduced(float r, int32_t i)
{
    const float e = r_exp_chain(r);
    const int32_t half = i >> 1;
    return e * r_power_of_two(half) * r_power_of_two(i - half); /* right through the subnormal numbers */
}

SL_FN float r_exp(float x)
{
    float n;
    int32_t i;
    const float r = r_reduce_ln2(r_copysign(r_at_most(r_abs(x), SL_LIMIT_EXP), x), &n, &i);
    return r_exp_reduced(r, i);
}

/* a - n·ln 2 for a >= 0 and the integer n nearest to a/ln 2. First step of e^-a - 1, where a is at most 20.
 */
SL_FN float r_exp_rest(float a)
{
    const float magic = 12582912.0f; /* 1.5·2^23: the sum's last bits are the rounded integer */
    const float c = r_at_most(a, SL_LIMIT_EXPM1), n = r_fma(c, -1.44269504f, magic) - magic;
    return r_fma(n, 1.42860677e-6f, r_fma(n, 0.693145752f, c));
}
SL_FN float r_expm1_minus_of(float a, float rest)
{
    const float t = r_fma(r_at_most(a, SL_LIMIT_EXPM1), -1.44269504f, 12582912.0f + 127);
    const float r = -rest, s = r * r, scale = r_from_bits(r_bits(t) << 23);
    float q = r_fma(1.9761725e-4f, r, 1.3932321e-3f);
    q = r_fma(q, s, r_fma(8.333546e-3f, r, 4.1666493e-2f));
    q = r_fma(q, s, r_fma(1.6666666e-1f, r, 0.5f));
    return r_fma(scale, r_fma(s, q, r), scale - 1);
}

/* ln(1 + f) + k·ln 2 for 1/sqrt 2 <= 1 + f <= sqrt 2. */
SL_FN float r_log_polynomial(float f, float k)
{
    float p = 6.750461e-2f;
    p = r_fma(p, f, -1.16712734e-1f);
    p = r_fma(p, f, 1.1883667e-1f);
    p = r_fma(p, f, -1.2406066e-1f);
    p = r_fma(p, f, 1.4220323e-1f);
    p = r_fma(p, f, -1.6667995e-1f);
    p = r_fma(p, f, 2.0002073e-1f);
    p = r_fma(p, f, -2.500001e-1f);
    p = r_fma(p, f, 3.3333313e-1f);
    const float s = f * f;
    float low = r_fma(p * f, s, k * 1.42860677e-6f);
    low = r_fma(-0.5f, s, low);
    return r_fma(k, 0.693145752f, f + low);
}

SL_FN float r_log(float x)
{
    const float tiny = 1.17549435e-38f;
    const float scaled = x < tiny ? x * 8388608.0f : x, shift = x < tiny ? -23.0f : 0.0f;
    const uint32_t above = r_bits(scaled) - 0x3f3504f3u; /* distance from 1/sqrt 2 */
    const int32_t k = (int32_t)above >> 23;
    const float f = r_from_bits(r_bits(scaled) - ((uint32_t)k << 23)) - 1;
    const float y = r_log_polynomial(f, (float)k + shift);
    const float infinity = r_from_bits(0x7f800000u);
    return x > 0 ? (x < infinity ? y : x) : x < 0 ? r_from_bits(0x7fc00000u) : x == 0 ? -infinity : x;
}

SL_FN float r_log1p(float x)
{
    const float u = 1 + x, infinity = r_from_bits(0x7f800000u);
    const uint32_t above = r_bits(u) - 0x3f3504f3u;
    const int32_t k = (int32_t)above >> 23;
    /* 1 + f = (1 + x)·2^-k without the rounding of 1 + x. The factor 4: 2^-128 would be subnormal. */
    const float scale = r_power_of_two(2 - k);
    const float f = r_fma(0.25f, x * scale, r_fma(0.25f, scale, -1.0f));
    const float y = r_copysign(r_log_polynomial(f, (float)k), x);
    return x > -1 ? (x < infinity ? y : x) : x < -1 ? r_from_bits(0x7fc00000u) : x == -1 ? -infinity : x;
}

/* 1/(1 + e^-x), given e = e^-|x|. The divisor's rounding error is made good. */
SL_FN float r_sigmoid_of(float x, float e)
{
    const float d = 1 + e, low = e - (d - 1), q = (x < 0 ? e : 1.0f) / d;
    return r_fma(-q, low * r_fma(-0.5f, e, 1.0f), q); /* 1 - e/2 is near enough to 1/d */
}

/* e^a for a >= 0, as tanh needs it: at most e^20. */
SL_FN float r_exp_up(float a)
{
    const float magic = 12582912.0f + 127, c = r_at_most(a, SL_LIMIT_EXPM1);
    const float t = r_fma(c, 1.44269504f, magic), n = t - magic;
    const float r = r_fma(n, -1.42860677e-6f, r_fma(n, -0.693145752f, c));
    return r_exp_chain(r) * r_from_bits(r_bits(t) << 23);
}
/* 1 - 2/(e^2|x| + 1), given e = e^2|x|; near 0 a polynomial. */
SL_FN float r_tanh_of(float x, float e)
{
    const float a = r_abs(x), s = x * x;
    float p = -5.665064e-3f;
    p = r_fma(p, s, 2.0604296e-2f);
    p = r_fma(p, s, -5.3729367e-2f);
    p = r_fma(p, s, 1.3331322e-1f);
    p = r_fma(p, s, -3.3333278e-1f);
    const float near = r_fma(p * s, a, a), far = 1 - 2 / (e + 1);
    return r_copysign(a < 0.62f ? near : far, x);
}

/* ln(1 + e^x) = max(x, 0) + ln(1 + e), given e = e^-|x| */
SL_FN float r_softplus_of(float x, float e)
{
    const float s = e * e, s2 = s * s;
    float high = r_fma(-3.30653763e-3f, s2, r_fma(0.10670013f, e, -0.153490975f));
    high = r_fma(r_fma(2.01503318e-2f, e, -5.75615279e-2f), s, high);
    const float low = r_fma(r_fma(0.196931928f, e, -0.24958156f), s, r_fma(0.333304703f, e, -0.499999315f));
    return (x > 0 ? x : 0.0f) + r_fma(r_fma(high, s2, low), s, e); /* a NaN comes with e */
}

/* e^(-x²/2) */
SL_FN float r_gauss(float x)
{
    const float magic = 12582912.0f + 191, t = r_at_most(r_abs(x), SL_LIMIT_GAUSS);
    const float t2 = t * t, low = r_fma(t, t, -t2); /* t² = t2 + low */
    const float m = r_fma(t2, -0.72134752f, magic), n = m - magic;
    /* Both terms of the first sum are exact, and so is the sum: -2r is rounded once. */
    const float r = -0.5f * (r_fma(n, 1.3862915f, t2) + r_fma(n, 2.85721354e-6f, low));
    const float e = r_fma(r_fma(r_exp_polynomial(r, r * r), r, 1.0f), r, 1.0f);
    return e * r_from_bits(r_bits(m) << 23) * 5.42101086e-20f;
}

/* Distribution function of the normal distribution, given g = e^(-x²/2). The left tail is g·P(u)/(t + 3/2),
 * u = (t - 7/2)/(t + 7/2), t = |x|: P is then nearly flat, and the error of u has little weight. */
SL_FN float r_normal_cdf_of(float x, float g)
{
    const float t = r_at_most(r_abs(x), SL_LIMIT_GAUSS), u = (t - 3.5f) / (t + 3.5f);
    float p = 1.4217057e-4f;
    p = r_fma(p, u, 1.6305872e-4f);
    p = r_fma(p, u, -1.2115675e-3f);
    p = r_fma(p, u, -4.024253e-4f);
    p = r_fma(p, u, 9.596654e-3f);
    p = r_fma(p, u, -2.0728296e-2f);
    p = r_fma(p, u, 7.228082e-3f);
    p = r_fma(p, u, 6.371481e-2f);
    p = r_fma(p, u, -1.9128242e-1f);
    p = r_fma(p, u, 5.3172576e-1f);
    const float tail = g * (p / (t + 1.5f));
    return x > 0 ? 1 - tail : tail;
}
SL_FN float r_normal_cdf(float x)
{
    return r_normal_cdf_of(x, r_gauss(x));
}

SL_FN float r_erf(float x)
{
    const float a = r_abs(x), s = x * x;
    float p = 7.806904e-5f;
    p = r_fma(p, s, -7.997853e-4f);
    p = r_fma(p, s, 5.187162e-3f);
    p = r_fma(p, s, -2.6853347e-2f);
    p = r_fma(p, s, 1.1283579e-1f);
    p = r_fma(p, s, -3.7612626e-1f);
    p = r_fma(p, s, 1.2837917e-1f);
    const float near = r_fma(p, a, a), far = r_fma(-2.0f, r_normal_cdf(-1.41421356f * a), 1.0f);
    return r_copysign(a < 1 ? near : far, x);
}

/* sin(pi·r) and cos(pi·r) for |r| <= 1/4 */
SL_FN void r_quarter_sin_cos_pi(float r, float *sine, float *cosine)
{
    const float s = r * r;
    float p = 7.9157434e-2f;
    p = r_fma(p, s, -5.989812e-1f);
    p = r_fma(p, s, 2.5501547f);
    p = r_fma(p, s, -5.1677127f);
    *sine = r_fma(r, 3.14159274f, r_fma(r, -8.74227766e-8f, p * s * r)); /* pi in two parts */
    float q = 9.496344e-2f;
    q = r_fma(q, s, 2.1659067e-1f);
    q = r_fma(q, s, -1.3342539f);
    q = r_fma(q, s, 4.0586905f);
    q = r_fma(q, s, -4.934802f);
    *cosine = r_fma(q, s, 1.0f);
}
/* x = n/2 + r, |r| <= 1/4; sin(pi·r) and cos(pi·r). |x| < 2^21. */
SL_FN void r_sin_cos_pi(float x, uint32_t *n, float *sine, float *cosine)
{
    const float magic = 12582912.0f, t = r_fma(x, 2.0f, magic);
    *n = r_bits(t);
    r_quarter_sin_cos_pi(r_fma(t - magic, -0.5f, x), sine, cosine);
}
/* sin(pi·x), cos(pi·x) for |x| < 2^21 */
SL_FN float r_sin_pi(float x)
{
    uint32_t n;
    float sine, cosine;
    r_sin_cos_pi(x, &n, &sine, &cosine);
    const float y = n & 1 ? cosine : sine;
    return n & 2 ? -y : y;
}
SL_FN float r_cos_pi(float x)
{
    uint32_t n;
    float sine, cosine;
    r_sin_cos_pi(x, &n, &sine, &cosine);
    const float y = n & 1 ? sine : cosine;
    return (n + 1) & 2 ? -y : y;
}

/* The same in units of x = n·pi/2 + pi·r; pi/2 in three parts, of which the first leaves no error. */
SL_FN void r_sin_cos(float x, uint32_t *n, float *sine, float *cosine)
{
    const float magic = 12582912.0f, t = r_fma(x, 0.636619772f, magic), k = t - magic;
    const float r = r_fma(-k, -1.71512451e-15f, r_fma(-k, -4.37113883e-8f, r_fma(-k, 1.57079637f, x)));
    *n = r_bits(t);
    r_quarter_sin_cos_pi(0.318309886f * r, sine, cosine);
}
/* Beyond SL_LIMIT_ANGLE both are 0: neighbouring floats are then half a radian apart. */
SL_FN float r_sin(float x)
{
    uint32_t n;
    float sine, cosine;
    r_sin_cos(x, &n, &sine, &cosine);
    const float y = n & 1 ? cosine : sine, signed_y = n & 2 ? -y : y;
    return r_abs(x) < SL_LIMIT_ANGLE ? signed_y : x == x ? 0.0f : x;
}
SL_FN float r_cos(float x)
{
    uint32_t n;
    float sine, cosine;
    r_sin_cos(x, &n, &sine, &cosine);
    const float y = n & 1 ? sine : cosine, signed_y = (n + 1) & 2 ? -y : y;
    return r_abs(x) < SL_LIMIT_ANGLE ? signed_y : x == x ? 0.0f : x;
}
#endif

/* What rows of activations.def share, in either precision. */

/* x·g for a gate g >= 0; where g is 0 the result is a zero, though x be infinite. */
SL_FN real r_gated(real x, real g)
{
    return g != 0 ? x * g : x > 0 ? R(0) : x <= 0 ? R(-0.0) : x;
}

/* x, kept finite: at most 3.4e38 in size. */
SL_FN real r_finite(real x)
{
    return x > R(3.4e38) ? R(3.4e38) : x < R(-3.4e38) ? R(-3.4e38) : x;
}

SL_FN real r_softsign(real x)
{
    return x > R(1e30) ? R(1) : x < R(-1e30) ? R(-1) : x / (1 + r_abs(x));
}

/* Both steps at once. The rows of activations.def take them one by one. */
SL_FN real r_expm1_minus(real a)
{
    return r_expm1_minus_of(a, r_exp_rest(a));
}
SL_FN real r_sigmoid(real x)
{
    return r_sigmoid_of(x, r_exp_minus(r_abs(x)));
}
SL_FN real r_softplus(real x)
{
    return r_softplus_of(x, r_exp_minus(r_abs(x)));
}
SL_FN real r_tanh(real x)
{
    return r_tanh_of(x, r_exp_up(2 * r_abs(x)));
}
/* d sigmoid / dx = e/(1 + e)² */
SL_FN real r_sigmoid_slope(real x)
{
    const real e = r_exp_minus(r_abs(x));
    return e / r_fma(e, 2 + e, R(1));
}
SL_FN real r_normal_pdf(real x)
{
    return R(0.39894228040143268) * r_gauss(x);
}

/* What expressions are made of (core/formula.def). a·b, but 0 where one is 0 and the other infinite. */
SL_FN real r_product(real a, real b)
{
    const real p = a * b;
    return ((p == p) | (a != a) | (b != b)) ? p : R(0);
}
SL_FN real r_expm1(real x)
{
    const real m = r_expm1_minus(r_abs(x));
    return x > 0 ? -m * r_exp(x) : m;
}
SL_FN real r_max(real a, real b)
{
    return a > b ? a : a <= b ? b : a + b;
}
SL_FN real r_min(real a, real b)
{
    return a < b ? a : a >= b ? b : a + b;
}
/* c where a > b, d where a < b; where they are equal, the number between c and d that is nearest to 0. */
SL_FN real r_max_slope(real a, real b, real c, real d)
{
    const real low = r_min(c, d), high = r_max(c, d);
    const real least = low > 0 ? low : high < 0 ? high : low == low ? R(0) : low;
    return a > b ? c : a < b ? d : a == b ? least : a + b;
}

/* x·g where g is a function of x, NaN where x is: 0 where g is 0, though x be infinite. */
SL_FN real r_times(real x, real g)
{
    return g != 0 ? x * g : R(0);
}

/* x·sigmoid(u), given e = e^-|u| */
SL_FN real r_times_sigmoid_of(real x, real u, real e)
{
    return r_times(x, u < 0 ? e : R(1)) / (1 + e);
}
/* sigmoid(u) + w·sigmoid'(u), given e = e^-|u|: one division for both. */
SL_FN real r_times_sigmoid_slope_of(real w, real u, real e)
{
    const real d = 1 + e, low = e - (d - 1), q = 1 / d, r = r_fma(-low, q * q, q);
    return r * r_fma(r_times(w, e), r, u < 0 ? e : R(1));
}

/* x·tanh(softplus(x)), given e = e^-|x|, which cannot overflow. tanh is top/bottom: with w = e^x,
 * (w² + 2w)/(w² + 2w + 2), times e² on the right. */
SL_FN real r_mish_of(real x, real e)
{
    const real s = e * e, top = r_fma(R(2), e, x > 0 ? R(1) : s), rest = x > 0 ? s : R(1);
    return r_times(x, top) / r_fma(R(2), rest, top);
}
SL_FN real r_mish_slope_of(real x, real e)
{
    const real s = e * e, top = r_fma(R(2), e, x > 0 ? R(1) : s), rest = x > 0 ? s : R(1);
    const real r = 1 / r_fma(R(2), rest, top), rise = (x > 0 ? s : e) * r_fma(R(4), e, R(4));
    return r * r_fma(r_times(x, rise), r, top);
}

/* The derivative of x·normal_cdf(x), given g = e^(-x²/2). */
SL_FN real r_gelu_slope_of(real x, real g)
{
    return r_fma(R(0.39894228040143268), r_times(x, g), r_normal_cdf_of(x, g));
}

/* sqrt(8/pi)·(x + 0.044715 x³): gelu_tanh(x) = x·sigmoid of this. */
SL_FN real r_gelu_tanh_argument(real x)
{
    return x * r_fma(R(0.071354816272600248), x * x, R(1.5957691216057308));
}
/* x times its derivative */
SL_FN real r_gelu_tanh_rise(real x)
{
    return x * r_fma(R(0.21406444881780074), x * x, R(1.5957691216057308));
}
#endif
