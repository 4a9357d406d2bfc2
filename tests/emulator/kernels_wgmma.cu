/* kernels_wgmma.cu - products by wgmma, of sm_90a alone; test_wgmma.c checks what they compute. */
#include <cuda_bf16.h>
#include <stdint.h>

#define K extern "C" __global__ void

enum { COLUMNS = 32, CHUNK = 64 }; /* of B, and of K in shared memory at once */

static __device__ uint64_t descriptor(uint32_t at)
{
    return (uint64_t)(at & 0x3ffff) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

#define SUMS "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}"
#define SUMS_OF(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])

/* Rows of 64 columns to shared memory, swizzled. */
static __device__ void bring(uint8_t *to, const uint16_t *from, int rows, int k)
{
    for (int i = threadIdx.x; i < rows * 8; i += 128) {
        const int row = i / 8, piece = i % 8;
        *(uint4 *)(to + row * 128 + (piece ^ (row & 7)) * 16) = *(const uint4 *)(from + row * k + piece * 8);
    }
}

static __device__ void store(float *y, const float (&d)[COLUMNS / 2])
{
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    for (int i = 0; i < COLUMNS / 2; i++)
        y[(row + i % 4 / 2 * 8) * COLUMNS + column + i / 4 * 8 + i % 2] = d[i];
}

/* y [64, 32] = a [64, k] b [32, k]^T: bf16, a in registers; two chunks of b under way. */
K product(const uint16_t *a, const uint16_t *b, float *y, int k)
{
    __shared__ __align__(1024) uint8_t chunk[2][COLUMNS * CHUNK * 2];
    float d[COLUMNS / 2] = { 0 };
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    for (int c = 0; c < k / CHUNK; c++) {
        bring(chunk[c % 2], b + c * CHUNK, COLUMNS, k);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int s = 0; s < CHUNK / 16; s++) {
            uint32_t r[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                r[i] = *(const uint32_t *)(a + (row + i % 2 * 8) * k + c * CHUNK + s * 16 + column + i / 2 * 8);
            const uint64_t at = descriptor((uint32_t)__cvta_generic_to_shared(chunk[c % 2])) + 2 * s;
            asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 " SUMS
                ", {%16,%17,%18,%19}, %20, 1, 1, 1, 0;" : SUMS_OF(d)
                : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "l"(at));
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        __syncthreads();
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    store(y, d);
}

/* The same of f16, both in shared memory; what the sums hold at first is not added. */
K product_shared(const uint16_t *a, const uint16_t *b, float *y, int k)
{
    __shared__ __align__(1024) uint8_t rows[64 * CHUNK * 2], columns[COLUMNS * CHUNK * 2];
    float d[COLUMNS / 2];
    for (int i = 0; i < COLUMNS / 2; i++)
        d[i] = y[i];
    for (int c = 0; c < k / CHUNK; c++) {
        bring(rows, a + c * CHUNK, 64, k);
        bring(columns, b + c * CHUNK, COLUMNS, k);
        asm volatile("fence.proxy.async;" ::: "memory");
        __syncthreads();
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int s = 0; s < CHUNK / 16; s++) {
            const uint64_t at = descriptor((uint32_t)__cvta_generic_to_shared(rows)) + 2 * s;
            const uint64_t bt = descriptor((uint32_t)__cvta_generic_to_shared(columns)) + 2 * s;
            asm volatile("{ .reg .pred p; setp.ne.b32 p, %18, 0; "
                "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 " SUMS ", %16, %17, p, 1, 1, 0, 0; }"
                : SUMS_OF(d) : "l"(at), "l"(bt), "r"(c + s));
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        __syncthreads();
    }
    store(y, d);
}
