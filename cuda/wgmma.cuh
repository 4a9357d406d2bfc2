/* wgmma.cuh - products of a warpgroup (128 threads, sm_90a): d [64, N] += a [64, 16] * b [16, N], b in shared memory,
 * a in registers (a warp's 16 rows as mma.m16n8k16 has them) or in shared memory. They run beside the threads: what a
 * product reads or writes is its own from fence() to the wait of its group. */
#ifndef CDL_WGMMA_CUH
#define CDL_WGMMA_CUH

#include "common.cuh"

namespace wgmma {

/* Before a group's first product: what the threads did to its registers is done. */
__device__ __forceinline__ void fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until at most N groups are under way. */
template <int N> __device__ __forceinline__ void wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* Products may read what this thread wrote or copied to shared memory, once a barrier follows. */
__device__ __forceinline__ void publish()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Rows of 64 columns of 16 bits, from a multiple of 1024 on, swizzled by 128 bytes: piece p of 16 bytes of row r stands
 * at r * 128 + (p ^ r % 8) * 16. 16 columns on: + 2; 8 rows on: + 64. */
__device__ __forceinline__ uint64_t matrix(uint32_t shared)
{
    return (uint64_t)((shared & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

template <typename T, int K>
__device__ __forceinline__ void multiply(float (&d)[K], const uint32_t (&a)[4], uint64_t b);
template <typename T, int K> __device__ __forceinline__ void multiply(float (&d)[K], uint64_t a, uint64_t b);

/* Operands of the sums, and the names that the text gives them: of 64, 128 and 256 columns. */
#define CDL_WGMMA_SUMS_64 \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15" \
    ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define CDL_WGMMA_OF_64(d) \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define CDL_WGMMA_SUMS_128 \
    CDL_WGMMA_SUMS_64 \
    ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47" \
    ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define CDL_WGMMA_OF_128(d) \
    CDL_WGMMA_OF_64(d), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
    "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
    "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define CDL_WGMMA_SUMS_256 \
    CDL_WGMMA_SUMS_128 \
    ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79" \
    ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95" \
    ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
    ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define CDL_WGMMA_OF_256(d) \
    CDL_WGMMA_OF_128(d), \
    "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), \
    "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), \
    "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), \
    "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), \
    "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), \
    "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]), \
    "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), \
    "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

/* count: sums of a thread; a0 .. a3, b: the names of the operands behind them, of which the second form has two. */
#define CDL_WGMMA(type, name, n, count, a0, a1, a2, a3, b0) \
    template <> __device__ __forceinline__ void multiply<type>(float (&d)[count], const uint32_t (&a)[4], uint64_t b) \
    { \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." name "." name " {" CDL_WGMMA_SUMS_##n "}" \
                     ", {" a0 "," a1 "," a2 "," a3 "}, " b0 ", 1, 1, 1, 0;" \
                     : CDL_WGMMA_OF_##n(d) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)); \
    } \
    template <> __device__ __forceinline__ void multiply<type>(float (&d)[count], uint64_t a, uint64_t b) \
    { \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." name "." name " {" CDL_WGMMA_SUMS_##n "}" \
                     ", " a0 ", " a1 ", 1, 1, 1, 0, 0;" : CDL_WGMMA_OF_##n(d) : "l"(a), "l"(b)); \
    }
#define CDL_WGMMA_TYPE(type, name) \
    CDL_WGMMA(type, name, 64, 32, "%32", "%33", "%34", "%35", "%36") \
    CDL_WGMMA(type, name, 128, 64, "%64", "%65", "%66", "%67", "%68") \
    CDL_WGMMA(type, name, 256, 128, "%128", "%129", "%130", "%131", "%132")
CDL_WGMMA_TYPE(bf16, "bf16")
CDL_WGMMA_TYPE(f16, "f16")
#undef CDL_WGMMA_TYPE
#undef CDL_WGMMA

} /* namespace wgmma */

#endif
