/* Loops over elements that may work in place: element i of the output may be element i of an input. So the
 * pointers are not restrict, and the compiler is told instead that no iteration reads what another one
 * writes. */
#ifndef SL_CPU_LOOPS_H
#define SL_CPU_LOOPS_H

#if defined(__clang__)
#    define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#    define INDEPENDENT _Pragma("GCC ivdep")
#else
#    define INDEPENDENT
#endif
#define EACH INDEPENDENT for (int64_t i = 0; i < n; i++)

#endif
