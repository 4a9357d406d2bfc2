/* kernels_list.h - the fast kernels of each instruction set. An op that a set has no row for takes the
 * next lower set's kernel, at last the plain twin.
 * X(OP, set) stands for `const cdl_cpu_kernel cdl_<OP>_<set>`. */
#ifdef __x86_64__
#define CDL_KERNELS_AVX2(X)
#define CDL_KERNELS_AVX512(X) X(LINEAR, avx512) X(LINEAR_GLU, avx512)
#define CDL_KERNELS_AMX(X)
#else
#define CDL_KERNELS_AVX2(X)
#define CDL_KERNELS_AVX512(X)
#define CDL_KERNELS_AMX(X)
#endif
