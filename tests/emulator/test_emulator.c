/* test_emulator.c - the virtual GPU against the host, and each of its checks against a kernel broken on purpose.
 *
 * Kernels: kernels.cu, as PTX in build/emulator/kernels.ptx. Mutations edit that text.
 */
#include "vgpu.h"

static void test_arithmetic_of_a_guarded_grid(void **state)
{
    (void)state;
    float x[1000], y[1000], got[1000], a = 2.5f;
    int n = 1000;
    for (int i = 0; i < n; i++)
        x[i] = (float)i / 7, y[i] = (float)(i % 13);
    CUdeviceptr dx = upload(x, sizeof x), dy = upload(y, sizeof y);
    check(run(ptx, "saxpy", 8, 128, (void *[]){&dx, &dy, &a, &n}));
    check(p_cuMemcpyDtoH(got, dy, sizeof got));
    for (int i = 0; i < n; i++)
        assert_true(got[i] == fmaf(a, x[i], y[i]));
}

static void test_lanes_that_go_their_own_ways(void **state)
{
    (void)state;
    int x[300], got[300], n = 300;
    for (int i = 0; i < n; i++)
        x[i] = i * 17 + 1;
    CUdeviceptr dx = upload(x, sizeof x), dy = upload(NULL, sizeof got);
    check(run(ptx, "collatz", 3, 128, (void *[]){&dx, &dy, &n}));
    check(p_cuMemcpyDtoH(got, dy, sizeof got));
    for (int i = 0; i < n; i++) {
        int v = x[i], steps = 0;
        for (; v != 1; steps++)
            v = v & 1 ? 3 * v + 1 : v / 2;
        assert_int_equal(got[i], steps);
    }
}

static CUresult reduce(const char *text, float *got)
{
    float x[1000];
    int n = 1000;
    for (int i = 0; i < n; i++)
        x[i] = (float)(i % 10);
    CUdeviceptr dx = upload(x, sizeof x), dy = upload(NULL, 4);
    CUresult r = run(text, "reduce", 1, 256, (void *[]){&dx, &dy, &n});
    return r ? r : p_cuMemcpyDtoH(got, dy, 4);
}

static void test_shared_memory_and_barriers(void **state)
{
    (void)state;
    float got = 0;
    check(reduce(ptx, &got));
    assert_true(got == 4500.0f);
}

static void test_check_finds_a_deleted_barrier(void **state)
{
    (void)state;
    float got;
    char *text = mutated("reduce", "bar.sync", "//", 0);
    assert_int_not_equal(reduce(text, &got), CUDA_SUCCESS);
    free(text);
}

static void test_check_finds_a_divergent_barrier(void **state)
{
    (void)state;
    float got;
    char *text = mutated("reduce", "bar.sync \t0;", "{ .reg .pred q; .reg .b32 t; mov.u32 t, %tid.x; "
                         "setp.lt.u32 q, t, 40; @q bar.sync 0; @!q bar.sync 0; }", 0);
    assert_int_equal(reduce(text, &got), CUDA_ERROR_ILLEGAL_INSTRUCTION);
    free(text);
}

static void test_atomics(void **state)
{
    (void)state;
    uint8_t x[4096];
    unsigned bins[256] = {0}, want[256] = {0};
    int n = 4096;
    for (int i = 0; i < n; i++)
        want[x[i] = (uint8_t)(i * i >> 3)]++;
    CUdeviceptr dx = upload(x, sizeof x), db = upload(bins, sizeof bins);
    check(run(ptx, "histogram", 16, 256, (void *[]){&dx, &db, &n}));
    check(p_cuMemcpyDtoH(bins, db, sizeof bins));
    assert_memory_equal(bins, want, sizeof bins);
}

static void test_shuffle_and_vote(void **state)
{
    (void)state;
    int x[64], sum[64];
    unsigned odd[2], want_odd[2] = {0};
    int want[2] = {0};
    for (int i = 0; i < 64; i++) {
        x[i] = i * 37 % 101;
        want[i / 32] += x[i];
        want_odd[i / 32] |= (unsigned)(x[i] & 1) << (i % 32);
    }
    CUdeviceptr dx = upload(x, sizeof x), ds = upload(NULL, sizeof sum), dd = upload(NULL, sizeof odd);
    check(run(ptx, "warp", 1, 64, (void *[]){&dx, &ds, &dd}));
    check(p_cuMemcpyDtoH(sum, ds, sizeof sum));
    check(p_cuMemcpyDtoH(odd, dd, sizeof odd));
    for (int i = 0; i < 64; i++)
        assert_int_equal(sum[i], want[i / 32]);
    assert_memory_equal(odd, want_odd, sizeof odd);
}

static void test_local_arrays(void **state)
{
    (void)state;
    int x[40 * 16];
    for (int i = 0; i < 640; i++)
        x[i] = i * 7919 % 1009;
    CUdeviceptr dx = upload(x, sizeof x);
    check(run(ptx, "local_sort", 1, 40, (void *[]){&dx}));
    check(p_cuMemcpyDtoH(x, dx, sizeof x));
    for (int i = 1; i < 640; i++)
        assert_true(i % 16 == 0 || x[i - 1] <= x[i]);
}

static CUresult pipeline(const char *text, float *worst)
{
    enum { CHUNKS = 7 };
    float x[CHUNKS * 512], got[128];
    int chunks = CHUNKS;
    for (int i = 0; i < CHUNKS * 512; i++)
        x[i] = (float)(i % 97);
    CUdeviceptr dx = upload(x, sizeof x), dy = upload(NULL, sizeof got);
    CUresult r = run(text, "pipeline", 1, 128, (void *[]){&dx, &dy, &chunks});
    if (r)
        return r;
    check(p_cuMemcpyDtoH(got, dy, sizeof got));
    *worst = 0;
    for (int t = 0; t < 128; t++) {
        float want = 0;
        for (int c = 0; c < CHUNKS; c++)
            want += x[c * 512 + (t ^ 127)] + x[c * 512 + 511 - t];
        *worst = fmaxf(*worst, fabsf(want - got[t]));
    }
    return r;
}

static void test_asynchronous_copies(void **state)
{
    (void)state;
    float worst = NAN;
    check(pipeline(ptx, &worst));
    assert_true(worst == 0.0f);
}

static void test_check_finds_a_missing_wait(void **state)
{
    (void)state;
    float worst;
    char *text = mutated("pipeline", "cp.async.wait_group 2;", ";", 0);
    assert_int_not_equal(pipeline(text, &worst), CUDA_SUCCESS);
    free(text);
}

static void test_check_finds_a_race_that_leaves_the_result_right(void **state)
{
    (void)state;
    float worst;
    char *text = mutated("pipeline", "bar.sync", "//", 1);
    assert_int_not_equal(pipeline(text, &worst), CUDA_SUCCESS);
    free(text);
}

static void test_ldmatrix_and_mma(void **state)
{
    (void)state;
    uint16_t a[256], b[128];
    float va[256], vb[128], got[128];
    for (int i = 0; i < 256; i++) {
        va[i] = (float)(i % 8 - 4);
        a[i] = i % 8 == 4 ? 0 : (uint16_t)((va[i] < 0) << 15 | (15 + ilogbf(va[i])) << 10
            | (int)((fabsf(va[i]) / exp2f((float)ilogbf(va[i])) - 1) * 1024));
    }
    for (int i = 0; i < 128; i++) {
        vb[i] = exp2f((float)(i % 5 - 2));
        b[i] = (uint16_t)((15 + i % 5 - 2) << 10);
    }
    CUdeviceptr da = upload(a, sizeof a), db = upload(b, sizeof b), dc = upload(NULL, sizeof got);
    check(run(ptx, "mma_one", 1, 32, (void *[]){&da, &db, &dc}));
    check(p_cuMemcpyDtoH(got, dc, sizeof got));
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 8; c++) {
            float want = 0;
            for (int k = 0; k < 16; k++)
                want += va[r * 16 + k] * vb[k * 8 + c];
            assert_true(got[r * 8 + c] == want);
        }
}

static void test_parameters_and_generic_addresses(void **state)
{
    (void)state;
    struct {
        int scale[16];
        CUdeviceptr out;
    } t;
    int got[64];
    memset(got, 0, sizeof got);
    for (int i = 0; i < 16; i++)
        t.scale[i] = 3 * i;
    t.out = upload(got, sizeof got);
    check(run(ptx, "params", 1, 32, (void *[]){&t}));
    check(p_cuMemcpyDtoH(got, t.out, sizeof got));
    for (int i = 0; i < 32; i++) {
        int scale = 3 * (i & 15);
        assert_int_equal(got[i], scale > 20 ? 0 : scale);
        assert_int_equal(got[32 + i], scale > 20 ? scale : 1000);
    }
}

static void test_lanes_that_wait_for_lanes(void **state)
{
    (void)state;
    int zero[64] = {0}, got[64];
    CUdeviceptr lock = upload(zero, 4), count = upload(zero, 4);
    CUdeviceptr flag = upload(zero, 4), out = upload(zero, sizeof zero);
    check(run(ptx, "spin", 2, 64, (void *[]){&lock, &count}));
    check(p_cuMemcpyDtoH(got, count, 4));
    assert_int_equal(got[0], 128);
    check(run(ptx, "wait_for_lane", 1, 64, (void *[]){&flag, &out}));
    check(p_cuMemcpyDtoH(got, out, sizeof got));
    for (int i = 0; i < 64; i++)
        assert_int_equal(got[i], 1);
}

static void test_check_finds_a_deadlock(void **state)
{
    (void)state;
    float got;
    char *text = mutated("reduce", "bar.sync \t0;", "bar.sync 1, 512;", 0);
    assert_int_equal(reduce(text, &got), CUDA_ERROR_LAUNCH_TIMEOUT);
    free(text);
}

static unsigned reversed(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (x >> i & 1) << (31 - i);
    return r;
}

static void test_integers_and_conversions(void **state)
{
    (void)state;
    int x[32], got[256];
    for (int i = 0; i < 32; i++)
        x[i] = (i - 16) * 123457 + i;
    CUdeviceptr dx = upload(x, sizeof x), dy = upload(NULL, sizeof got);
    check(run(ptx, "mixed", 1, 32, (void *[]){&dx, &dy}));
    check(p_cuMemcpyDtoH(got, dy, sizeof got));
    for (int i = 0; i < 32; i++) {
        int v = x[i], *o = got + 8 * i, limited = v < -100 ? -100 : v > 100 ? 100 : v;
        float power;
        memcpy(&power, &o[5], 4);
        assert_int_equal(o[0], v / 7);
        assert_int_equal(o[1], v % 7);
        assert_int_equal((unsigned)o[2], reversed((unsigned)v));
        assert_int_equal(o[3], __builtin_popcount((unsigned)v) + (v ? __builtin_clz((unsigned)v) : 32));
        assert_int_equal(o[4], (int)(((long long)v * 1000003) >> 7));
        assert_true(fabsf(power / exp2f((float)(v % 20)) - 1) < 1e-6f);
        assert_int_equal(o[6], v % 1000);
        assert_int_equal(o[7], limited ^ (int)((unsigned)v << 3));
    }
}

static CUresult saxpy_of(const char *text, size_t allocated, CUdeviceptr shift, const float *from)
{
    float a = 1;
    int n = 256;
    CUdeviceptr dx = upload(from, 4096), dy = upload(from, allocated) + shift;
    return run(text, "saxpy", 2, 128, (void *[]){&dx, &dy, &a, &n});
}

static void test_check_finds_an_access_out_of_bounds(void **state)
{
    (void)state;
    static const float zero[2048];
    check(saxpy_of(ptx, 1024, 0, zero));
    assert_int_equal(saxpy_of(ptx, 1020, 0, zero), CUDA_ERROR_ILLEGAL_ADDRESS);
}

static void test_check_finds_a_misaligned_access(void **state)
{
    (void)state;
    static const float zero[2048];
    assert_int_equal(saxpy_of(ptx, 4096, 2, zero), CUDA_ERROR_MISALIGNED_ADDRESS);
}

static void test_check_finds_an_uninitialised_read(void **state)
{
    (void)state;
    static const float zero[2048];
    float a = 1;
    int n = 256;
    CUdeviceptr dx = upload(NULL, 1024), dy = upload(zero, 1024);
    assert_int_not_equal(run(ptx, "saxpy", 2, 128, (void *[]){&dx, &dy, &a, &n}), CUDA_SUCCESS);
}

static CUresult last_block(const char *text, float *got)
{
    enum { BLOCKS = 70, N = 9 };
    float x[BLOCKS * N];
    int n = N, zero = 0;
    for (int i = 0; i < BLOCKS * N; i++)
        x[i] = (float)(i % 11);
    CUdeviceptr dx = upload(x, sizeof x), part = upload(NULL, BLOCKS * 4), arrived = upload(&zero, 4);
    CUdeviceptr out = upload(NULL, 4);
    CUresult r = run(text, "last_block", BLOCKS, 64, (void *[]){&dx, &part, &arrived, &out, &n});
    return r ? r : p_cuMemcpyDtoH(got, out, 4);
}

static void test_blocks_that_wait_by_counting(void **state)
{
    (void)state;
    float got = 0, want = 0;
    check(last_block(ptx, &got));
    for (int i = 0; i < 70 * 9; i++)
        want += (float)(i % 11);
    assert_true(got == want);
}

static void test_check_finds_a_deleted_fence(void **state)
{
    (void)state;
    float got;
    char *text = mutated("last_block", "membar.gl", "//", 0);
    assert_int_equal(last_block(text, &got), CUDA_ERROR_LAUNCH_FAILED);
    free(text);
}

static void test_check_finds_a_count_without_atomics(void **state)
{
    (void)state;
    uint8_t x[4096] = {0};
    unsigned bins[256] = {0};
    int n = 4096;
    CUdeviceptr dx = upload(x, sizeof x), db = upload(bins, sizeof bins);
    char *text = mutated("histogram", "atom.global.add.u32", "{ .reg .b32 t; ld.global.u32 t, [%rd8]; "
                         "add.s32 t, t, 1; st.global.u32 [%rd8], t; } //", 0);
    assert_int_equal(run(text, "histogram", 16, 256, (void *[]){&dx, &db, &n}), CUDA_ERROR_LAUNCH_FAILED);
    free(text);
}

static void rows_of_bytes(int n, int blocks)
{
    uint8_t x[1024], got[1024];
    int shift = 3;
    for (int i = 0; i < 1024; i++)
        x[i] = (uint8_t)i;
    CUdeviceptr dx = upload(x, sizeof x);
    check(run(ptx, "rows_of_bytes", (unsigned)blocks, 64, (void *[]){&dx, &n, &shift}));
    check(p_cuMemcpyDtoH(got, dx, sizeof got));
    for (int i = 0; i < blocks * n; i++)
        assert_int_equal(got[i], (uint8_t)(x[i / n * n + (i % n + shift) % n] + 1));
}

static void test_blocks_that_share_a_line_do_not_race(void **state)
{
    (void)state;
    for (int n = 1; n < 40; n += 6)
        rows_of_bytes(n, 25);
}

static CUresult neighbours(int step, bool in_place)
{
    int x[20 * 32] = {0};
    CUdeviceptr dx = upload(x, sizeof x), dy = in_place ? dx : upload(x, sizeof x);
    return run(ptx, "neighbours", 16, 32, (void *[]){&dx, &dy, &step});
}

static void test_blocks_that_keep_apart_do_not_race(void **state)
{
    (void)state;
    check(neighbours(1, false));
    check(neighbours(0, true));
}

static void test_check_finds_a_read_of_what_another_block_writes(void **state)
{
    (void)state;
    assert_int_equal(neighbours(1, true), CUDA_ERROR_LAUNCH_FAILED);
}

static void test_check_finds_two_blocks_that_write(void **state)
{
    (void)state;
    static const float zero[2048];
    float a = 1;
    int n = 256;
    CUdeviceptr dx = upload(zero, 4096), dy = upload(zero, 4096);
    char *text = mutated("saxpy", "%ctaid.x", "0", 0);
    assert_int_equal(run(text, "saxpy", 2, 128, (void *[]){&dx, &dy, &a, &n}), CUDA_ERROR_LAUNCH_FAILED);
    free(text);
}

enum { BLOCKS = 8, WARPS = 4, PLACES = BLOCKS * WARPS * 3 };

/* The order in which warps came; each came three times. */
static void arrivals(const char *seed, unsigned *order)
{
    unsigned zero = 0, times[100 * BLOCKS] = {0};
    CUdeviceptr place = upload(&zero, 4), out = upload(NULL, PLACES * 4);
    setenv("CUDDLE_VGPU_SEED", seed, 1);
    check(run(ptx, "arrivals", BLOCKS, 32 * WARPS, (void *[]){&place, &out}));
    unsetenv("CUDDLE_VGPU_SEED");
    check(p_cuMemcpyDtoH(order, out, PLACES * 4));
    for (int i = 0; i < PLACES; i++)
        times[order[i]]++;
    for (int b = 0; b < BLOCKS; b++)
        for (int w = 0; w < WARPS; w++)
            assert_int_equal(times[100 * b + w], 3);
}

static void test_seeds_permute_blocks_and_warps(void **state)
{
    (void)state;
    unsigned one[PLACES], two[PLACES];
    int descents = 0, returns = 0, warps = 0;
    arrivals("1", one);
    arrivals("2", two);
    assert_memory_not_equal(one, two, sizeof one);
    for (int i = 1; i < PLACES; i++) {
        descents += one[i] / 100 < one[i - 1] / 100;
        warps += one[i] % 100 < one[i - 1] % 100;
        for (int k = 0; k + 1 < i && one[i] != one[i - 1]; k++)
            returns += one[k] == one[i];
    }
    assert_true(descents > 3 && warps > 3 && returns > 3);
}

static void test_seeded_blocks_may_wait_for_each_other(void **state)
{
    (void)state;
    int got = 0;
    for (const char *seed = "123456"; *seed; seed++) {
        CUdeviceptr flag = upload(&got, 4), out = upload(&got, 4);
        setenv("CUDDLE_VGPU_SEED", seed, 1);
        check(run(ptx, "wait_for_block", 2, 64, (void *[]){&flag, &out}));
        unsetenv("CUDDLE_VGPU_SEED");
        check(p_cuMemcpyDtoH(&got, out, 4));
        assert_int_equal(got, 7);
        got = 0;
    }
}

/* Without the barrier the result depends on the schedule, which no check but the race's sees in order. */
static void test_seeds_break_a_kernel_without_its_barrier(void **state)
{
    (void)state;
    float got;
    char *text = mutated("reduce", "bar.sync", "//", 1);
    setenv("CUDDLE_VGPU_SEED", "5", 1);
    assert_int_not_equal(reduce(text, &got), CUDA_SUCCESS);
    unsetenv("CUDDLE_VGPU_SEED");
    free(text);
}

static void test_check_finds_a_use_after_free(void **state)
{
    (void)state;
    static const float zero[2048];
    float a = 1;
    int n = 256;
    CUdeviceptr dx = upload(zero, 1024), dy = upload(zero, 1024);
    check(p_cuMemFree(dx));
    assert_int_equal(run(ptx, "saxpy", 2, 128, (void *[]){&dx, &dy, &a, &n}), CUDA_ERROR_ILLEGAL_ADDRESS);
}

static void test_limits_and_unknown_opcodes_are_refused(void **state)
{
    (void)state;
    CUmodule m;
    float a = 1;
    int n = 1;
    CUdeviceptr p = upload(NULL, 16);
    assert_int_equal(run(ptx, "saxpy", 1, 1025, (void *[]){&p, &p, &a, &n}), CUDA_ERROR_INVALID_VALUE);
    char *text = mutated("saxpy", "fma.rn.f32", "fmx.rn.f32", 0);
    assert_int_equal(p_cuModuleLoadData(&m, text), CUDA_ERROR_INVALID_PTX);
    free(text);
}

static void test_a_graph_replays_its_record(void **state)
{
    (void)state;
    CUmodule m;
    CUfunction f;
    CUstream s;
    CUgraph g;
    CUgraphExec x;
    float one[256], got[256], a = 1;
    int n = 256;
    for (int i = 0; i < n; i++)
        one[i] = 1;
    CUdeviceptr dx = upload(one, sizeof one), dy = upload(one, sizeof one);
    check(p_cuModuleLoadData(&m, ptx));
    check(p_cuModuleGetFunction(&f, m, "saxpy"));
    check(p_cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    check(p_cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    check(p_cuLaunchKernel(f, 2, 1, 1, 128, 1, 1, 0, s, (void *[]){&dx, &dy, &a, &n}, NULL));
    check(p_cuStreamEndCapture(s, &g));
    check(p_cuGraphInstantiateWithFlags(&x, g, 0));
    for (int i = 0; i < 3; i++)
        check(p_cuGraphLaunch(x, s));
    check(p_cuStreamSynchronize(s));
    check(p_cuMemcpyDtoH(got, dy, sizeof got));
    assert_true(got[0] == 4.0f && got[255] == 4.0f);
    check(p_cuGraphExecDestroy(x));
    check(p_cuGraphDestroy(g));
    check(p_cuStreamDestroy(s));
    check(p_cuModuleUnload(m));
}

/* Stream b fills what stream a copies: with the event the copy sees it, without it does not. */
static float two_streams(bool wait)
{
    CUstream a, b;
    CUevent e;
    float zero = 0, got;
    CUdeviceptr p = upload(&zero, 4);
    check(p_cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    check(p_cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    check(p_cuEventCreate(&e, 0));
    check(p_cuMemsetD32Async(p, 0x3f800000, 1, b));
    check(p_cuEventRecord(e, b));
    if (wait)
        check(p_cuStreamWaitEvent(a, e, 0));
    check(p_cuStreamSynchronize(a));
    check(p_cuMemcpyDtoH(&got, p, 4));
    check(p_cuStreamSynchronize(b));
    check(p_cuEventDestroy(e));
    check(p_cuStreamDestroy(a));
    check(p_cuStreamDestroy(b));
    return got;
}

static void test_a_forgotten_stream_wait_shows(void **state)
{
    (void)state;
    assert_true(two_streams(true) == 1.0f);
    assert_true(two_streams(false) == 0.0f);
}

/* Memory of the second device; the first stays current. */
static CUdeviceptr upload_there(CUcontext there, const void *data, size_t n)
{
    check(p_cuCtxSetCurrent(there));
    CUdeviceptr p = upload(data, n);
    check(p_cuCtxSetCurrent(context));
    return p;
}

static void test_peers_are_reached_when_enabled(void **state)
{
    (void)state;
    CUcontext there;
    float x[256], zero[256] = {0}, got[256], a = 2;
    int n = 256;
    for (int i = 0; i < n; i++)
        x[i] = (float)i;
    check(p_cuDevicePrimaryCtxRetain(&there, 1));
    CUdeviceptr far = upload_there(there, x, sizeof x), near = upload(zero, sizeof zero);
    check(p_cuCtxEnablePeerAccess(there, 0));
    assert_int_equal(p_cuCtxEnablePeerAccess(there, 0), CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
    check(run(ptx, "saxpy", 2, 128, (void *[]){&far, &near, &a, &n}));
    check(run(ptx, "saxpy", 2, 128, (void *[]){&near, &far, &a, &n}));
    check(p_cuMemcpyDtoH(got, far, sizeof got));
    for (int i = 0; i < n; i++)
        assert_true(got[i] == (float)(5 * i));
    check(p_cuCtxDisablePeerAccess(there));
    check(p_cuMemcpyPeerAsync(near, context, far, there, sizeof got, NULL));
    check(p_cuMemcpyDtoH(got, near, sizeof got));
    assert_true(got[255] == 5.0f * 255);
    assert_int_equal(run(ptx, "saxpy", 2, 128, (void *[]){&far, &near, &a, &n}), CUDA_ERROR_ILLEGAL_ADDRESS);
    check(p_cuDevicePrimaryCtxRelease(1));
}

/* Launches once what a graph of this launch does. */
static void launch_graph(CUlaunchConfig *c, CUfunction f, void **args)
{
    CUgraph g;
    CUgraphExec x;
    check(p_cuStreamCreate(&c->hStream, 0));
    check(p_cuStreamBeginCapture(c->hStream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    check(p_cuLaunchKernelEx(c, f, args, NULL));
    check(p_cuStreamEndCapture(c->hStream, &g));
    check(p_cuGraphInstantiateWithFlags(&x, g, 0));
    check(p_cuGraphLaunch(x, c->hStream));
    check(p_cuStreamSynchronize(c->hStream));
    check(p_cuGraphExecDestroy(x));
    check(p_cuGraphDestroy(g));
}

/* x by a kernel, then x + w by one that may begin early, or by a graph of it. */
static CUresult early_sum(const char *text, bool w_by_kernel, bool graph)
{
    CUlaunchAttribute early = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                               .value.programmaticStreamSerializationAllowed = 1};
    CUlaunchConfig c = {.gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 32, .blockDimY = 1, .blockDimZ = 1,
                        .attrs = &early, .numAttrs = 1};
    CUmodule m;
    CUfunction copy, add;
    int data[32], got[32], step = 0;
    for (int i = 0; i < 32; i++)
        data[i] = 3 * i;
    CUdeviceptr source = upload(data, sizeof data), x = upload(NULL, sizeof data), y = upload(NULL, sizeof data);
    void *copy_args[] = {&source, &x, &step}, *add_args[] = {w_by_kernel ? &x : &source, &x, &y};
    check(p_cuModuleLoadData(&m, text));
    check(p_cuModuleGetFunction(&copy, m, "neighbours"));
    check(p_cuModuleGetFunction(&add, m, "early_add"));
    check(p_cuLaunchKernel(copy, 1, 1, 1, 32, 1, 1, 0, NULL, copy_args, NULL));
    if (graph)
        launch_graph(&c, add, add_args);
    else
        check(p_cuLaunchKernelEx(&c, add, add_args, NULL));
    CUresult r = p_cuCtxSynchronize();
    if (!r) {
        check(p_cuMemcpyDtoH(got, y, sizeof got));
        for (int i = 0; i < 32; i++)
            assert_int_equal(got[i], 6 * i);
    }
    return r;
}

static void test_a_launch_may_begin_early(void **state)
{
    (void)state;
    check(early_sum(ptx, false, false));
}

static void test_a_graph_begins_when_what_is_in_front_has_ended(void **state)
{
    (void)state;
    check(early_sum(ptx, true, true));
}

static void test_check_finds_an_early_read(void **state)
{
    (void)state;
    assert_int_not_equal(early_sum(ptx, true, false), CUDA_SUCCESS);
}

static void test_check_finds_an_early_launch_that_does_not_wait(void **state)
{
    (void)state;
    char *text = mutated("early_add", "griddepcontrol.wait;", ";", 0);
    assert_int_not_equal(early_sum(text, false, false), CUDA_SUCCESS);
    free(text);
}

#define T(name) cmocka_unit_test_setup_teardown(name, context_open, context_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_arithmetic_of_a_guarded_grid), T(test_lanes_that_go_their_own_ways), T(test_shared_memory_and_barriers),
        T(test_check_finds_a_deleted_barrier), T(test_check_finds_a_divergent_barrier), T(test_atomics),
        T(test_shuffle_and_vote), T(test_local_arrays), T(test_asynchronous_copies),
        T(test_check_finds_a_missing_wait), T(test_check_finds_a_race_that_leaves_the_result_right),
        T(test_ldmatrix_and_mma), T(test_parameters_and_generic_addresses), T(test_integers_and_conversions),
        T(test_check_finds_an_access_out_of_bounds),
        T(test_check_finds_a_misaligned_access), T(test_check_finds_an_uninitialised_read),
        T(test_lanes_that_wait_for_lanes), T(test_check_finds_a_deadlock),
        T(test_blocks_that_wait_by_counting), T(test_check_finds_a_deleted_fence),
        T(test_check_finds_a_count_without_atomics), T(test_blocks_that_share_a_line_do_not_race),
        T(test_blocks_that_keep_apart_do_not_race), T(test_check_finds_a_read_of_what_another_block_writes),
        T(test_check_finds_two_blocks_that_write), T(test_seeds_permute_blocks_and_warps),
        T(test_seeded_blocks_may_wait_for_each_other), T(test_seeds_break_a_kernel_without_its_barrier),
        T(test_check_finds_a_use_after_free), T(test_limits_and_unknown_opcodes_are_refused),
        T(test_a_graph_replays_its_record), T(test_a_forgotten_stream_wait_shows),
        T(test_peers_are_reached_when_enabled), T(test_a_launch_may_begin_early), T(test_check_finds_an_early_read),
        T(test_a_graph_begins_when_what_is_in_front_has_ended),
        T(test_check_finds_an_early_launch_that_does_not_wait),
    };
    return cmocka_run_group_tests(tests, open_library, NULL);
}
