/* kernels_list.h - the fast kernels of each instruction set. An op that a set has no row for takes the
 * next lower set's kernel, at last the plain twin.
 * X(OP, set) stands for `const cdl_cpu_kernel cdl_<OP>_<set>`. */
#define CDL_KERNELS_ROWS(X, set)                                                                \
    X(EMBED, set) X(GATHER, set) X(RMSNORM, set) X(LAYERNORM, set) X(ROPE, set)                 \
    X(STATE_WRITE, set) X(ATTENTION, set) X(ADD, set) X(ACT, set) X(ACT_MUL, set)               \
    X(SOFTCAP, set) X(SCALE, set)
#ifdef __x86_64__
#define CDL_KERNELS_AVX2(X) CDL_KERNELS_ROWS(X, avx2) X(LINEAR, avx2) X(LINEAR_GLU, avx2)
#define CDL_KERNELS_AVX512(X) CDL_KERNELS_ROWS(X, avx512) X(LINEAR, avx512) X(LINEAR_GLU, avx512)
#define CDL_KERNELS_AMX(X) X(LINEAR, amx) X(LINEAR_GLU, amx) X(ATTENTION, amx)
#else
#define CDL_KERNELS_AVX2(X)
#define CDL_KERNELS_AVX512(X)
#define CDL_KERNELS_AMX(X)
#endif
