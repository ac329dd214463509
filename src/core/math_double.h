/* The functions of core/math.h in double precision, over libm. Included by core/math.h alone. */
#ifndef SL_CORE_MATH_DOUBLE_H
#define SL_CORE_MATH_DOUBLE_H

#include <math.h>

SL_FN double r_abs(double x)
{
    return fabs(x);
}
SL_FN double r_copysign(double x, double sign)
{
    return copysign(x, sign);
}
SL_FN double r_sqrt(double x)
{
    return sqrt(x);
}
/* Rounded twice: no result of the oracle depends on the last bit, and libm's fma would be many times slower.
 */
SL_FN double r_fma(double a, double b, double c)
{
    return a * b + c;
}
SL_FN double r_exp(double x)
{
    return exp(x);
}
SL_FN double r_exp_minus(double a)
{
    return exp(-a);
}
SL_FN double r_exp_rest(double a)
{
    return a;
}
SL_FN double r_expm1_minus_of(double a, double rest)
{
    (void)rest;
    return expm1(-a);
}
SL_FN double r_log(double x)
{
    return log(x);
}
SL_FN double r_log1p(double x)
{
    return log1p(x);
}
SL_FN double r_exp_up(double a)
{
    return exp(a);
}
SL_FN double r_sigmoid_of(double x, double e)
{
    return (x < 0 ? e : 1) / (1 + e);
}
SL_FN double r_tanh_of(double x, double e)
{
    (void)e;
    return tanh(x);
}
SL_FN double r_softplus_of(double x, double e)
{
    return (x > 0 ? x : x <= 0 ? 0 : x) + log1p(e);
}
SL_FN double r_erf(double x)
{
    return erf(x);
}
SL_FN double r_gauss(double x)
{
    return exp(-0.5 * x * x);
}
SL_FN double r_normal_cdf(double x)
{
    return 0.5 * erfc(-0.70710678118654752 * x);
}
SL_FN double r_normal_cdf_of(double x, double g)
{
    (void)g;
    return r_normal_cdf(x);
}
SL_FN double r_sin(double x)
{
    return fabs(x) < SL_LIMIT_ANGLE ? sin(x) : x == x ? 0 : x;
}
SL_FN double r_cos(double x)
{
    return fabs(x) < SL_LIMIT_ANGLE ? cos(x) : x == x ? 0 : x;
}
/* With the argument reduced first: exact at multiples of 1/2. */
SL_FN double r_sin_pi(double x)
{
    const double n = nearbyint(2 * x), r = 3.14159265358979324 * (x - n / 2);
    const double y = fmod(n, 2) != 0 ? cos(r) : sin(r), turn = fmod(n < 0 ? fmod(n, 4) + 4 : n, 4);
    return turn >= 2 ? -y : y;
}
SL_FN double r_cos_pi(double x)
{
    return r_sin_pi(fabs(x) + 0.5);
}
#endif
