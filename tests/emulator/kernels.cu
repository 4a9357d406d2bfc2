/* kernels.cu - small kernels that each use one thing of the virtual GPU; test_emulator.c checks what they compute. */
#include <cuda_fp16.h>
#include <stdint.h>

#define K extern "C" __global__ void

K saxpy(const float *x, float *y, float a, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = a * x[i] + y[i];
}

/* Every lane takes its own number of turns, and odd lanes another way. */
K collatz(const int *x, int *steps, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    int v = x[i], count = 0;
    while (v != 1) {
        if (v & 1)
            v = 3 * v + 1;
        else
            v >>= 1;
        count++;
    }
    steps[i] = count;
}

K reduce(const float *x, float *out, int n)
{
    __shared__ float part[256];
    float s = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        s += x[i];
    part[threadIdx.x] = s;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        out[0] = part[0];
}

K histogram(const uint8_t *x, unsigned *bins, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        atomicAdd(&bins[x[i]], 1u);
}

/* Warp sum by shuffles, ballot of the odd ones. */
K warp(const int *x, int *sum, unsigned *odd)
{
    int v = x[threadIdx.x], s = v;
    for (int d = 16; d > 0; d /= 2)
        s += __shfl_xor_sync(~0u, s, d);
    unsigned b = __ballot_sync(~0u, v & 1);
    sum[threadIdx.x] = s;
    if (threadIdx.x % 32 == 0)
        odd[threadIdx.x / 32] = b;
}

/* An array that is indexed at run time lies in local memory. */
K local_sort(int *x)
{
    int v[16];
    int *mine = x + 16 * threadIdx.x;
    for (int i = 0; i < 16; i++)
        v[i] = mine[i];
#pragma unroll 1
    for (int i = 1; i < 16; i++) {
        int key = v[i], j = i;
#pragma unroll 1
        for (; j > 0 && v[j - 1] > key; j--)
            v[j] = v[j - 1];
        v[j] = key;
    }
    for (int i = 0; i < 16; i++)
        mine[i] = v[i];
}

/* Three stages of cp.async: out[b] = sum over the chunks of this block's column of bytes */
K pipeline(const float *x, float *out, int chunks)
{
    __shared__ alignas(16) float stage[3][128 * 4];
    unsigned at = (unsigned)__cvta_generic_to_shared(&stage[0][threadIdx.x * 4]);
    float s = 0;
    for (int c = 0; c < chunks + 2; c++) {
        if (c < chunks)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at + c % 3 * 2048),
                         "l"(x + (c * 128 + threadIdx.x) * 4));
        asm volatile("cp.async.commit_group;");
        if (c < 2)
            continue;
        asm volatile("cp.async.wait_group 2;");
        __syncthreads();
        s += stage[(c - 2) % 3][threadIdx.x ^ 127] + stage[(c - 2) % 3][511 - threadIdx.x];
        __syncthreads();
    }
    out[threadIdx.x] = s;
}

/* C[16, 8] = A[16, 16] B[16, 8] by ldmatrix and one mma */
K mma_one(const __half *a, const __half *b, float *c)
{
    __shared__ alignas(16) __half sa[16 * 16], sb[16 * 8];
    int l = threadIdx.x;
    for (int i = l; i < 256; i += 32)
        sa[i] = a[i];
    for (int i = l; i < 128; i += 32)
        sb[i] = b[i];
    __syncthreads();
    unsigned ra[4], rb[2];
    float rc[4] = {0, 0, 0, 0};
    unsigned pa = (unsigned)__cvta_generic_to_shared(sa + (l % 16) * 16 + l / 16 * 8);
    unsigned pb = (unsigned)__cvta_generic_to_shared(sb + (l % 16) * 8);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3]) : "r"(pa));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(rb[0]), "=r"(rb[1]) : "r"(pb));
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(rc[0]), "+f"(rc[1]), "+f"(rc[2]), "+f"(rc[3])
                 : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
    int row = l / 4, column = l % 4 * 2;
    c[row * 8 + column] = rc[0];
    c[row * 8 + column + 1] = rc[1];
    c[(row + 8) * 8 + column] = rc[2];
    c[(row + 8) * 8 + column + 1] = rc[3];
}

/* A lock that lanes of one warp and of others contend for: needs progress of whoever holds it. */
K spin(int *lock, int *count)
{
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            *(volatile int *)count += 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}

/* Lane 0 waits for what lane 1 does behind the loop. */
K wait_for_lane(volatile int *flag, int *out)
{
    if (threadIdx.x == 0)
        while (*flag == 0)
            ;
    if (threadIdx.x == 1)
        *flag = 1;
    out[threadIdx.x] = 1;
}

struct table {
    int scale[16];
    int *out;
};

/* A parameter that is indexed at run time, and a generic address that is now shared, now global. */
K params(const __grid_constant__ table t)
{
    __shared__ int mine[32];
    mine[threadIdx.x] = 1000;
    __syncwarp();
    int *p = t.scale[threadIdx.x & 15] > 20 ? mine + threadIdx.x : t.out + threadIdx.x;
    *p = t.scale[threadIdx.x & 15];
    __syncwarp();
    t.out[32 + threadIdx.x] = mine[threadIdx.x];
}

/* Integer and float odds and ends, a result a slot. */
K mixed(const int *x, int *out)
{
    int t = threadIdx.x, v = x[t], o = t * 8;
    out[o] = v / 7;
    out[o + 1] = v % 7;
    out[o + 2] = __brev(v);
    out[o + 3] = __popc(v) + __clz(v);
    out[o + 4] = (int)(((long long)v * 1000003) >> 7);
    out[o + 5] = __float_as_int(exp2f((float)(v % 20)));
    out[o + 6] = __half2int_rn(__float2half((float)(v % 1000)));
    out[o + 7] = max(min(v, 100), -100) ^ (v << 3);
}

/* Each block sums its part; the last one to arrive adds the sums up. */
K last_block(const float *x, float *part, unsigned *arrived, float *out, int n)
{
    __shared__ bool last;
    if (threadIdx.x == 0) {
        float s = 0;
        for (int i = 0; i < n; i++)
            s += x[blockIdx.x * n + i];
        part[blockIdx.x] = s;
        __threadfence();
        last = atomicAdd(arrived, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x)
        return;
    float s = 0;
    for (unsigned b = 0; b < gridDim.x; b++)
        s += part[b];
    *out = s;
    *arrived = 0;
}

/* In place, a block a row of n bytes: rows of several blocks lie in one line of memory. */
K rows_of_bytes(uint8_t *x, int n, int shift)
{
    uint8_t v = threadIdx.x < n ? x[blockIdx.x * n + (threadIdx.x + shift) % n] : 0;
    __syncthreads();
    if (threadIdx.x < n)
        x[blockIdx.x * n + threadIdx.x] = v + 1;
}

/* Blocks read what their neighbour writes, or write what their neighbour reads. */
K neighbours(const int *x, int *y, int step)
{
    y[blockIdx.x * 32 + threadIdx.x] = x[(blockIdx.x + step) * 32 + threadIdx.x];
}

/* Warps take places in turn, three each; what is found there tells the schedule. */
K arrivals(unsigned *place, unsigned *order)
{
    for (int i = 0; i < 3; i++) {
        if (threadIdx.x % 32 == 0)
            order[atomicAdd(place, 1u)] = blockIdx.x * 100 + threadIdx.x / 32;
        __syncwarp();
    }
}

/* Block 0 waits for what block 1 tells it. */
K wait_for_block(volatile int *flag, int *out)
{
    if (threadIdx.x == 0 && blockIdx.x == 1)
        *flag = 7;
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        while (*flag != 7)
            ;
        *out = *flag;
    }
}

/* May begin while the launch that writes x still runs; w is nobody's result. */
K early_add(const int *w, const int *x, int *y)
{
    const int mine = w[threadIdx.x];
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
    y[threadIdx.x] = x[threadIdx.x] + mine;
}
