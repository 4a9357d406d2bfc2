/* test_repack.c - weights go into the CUDA kernels' layout and come back as cdl_dtype_to_f32 reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../kernel/kernel.h"
#include "format/repack.h"

static const cdl_dtype types[] = { CDL_DTYPE_F16, CDL_DTYPE_BF16, CDL_DTYPE_Q4_0, CDL_DTYPE_Q4_1, CDL_DTYPE_Q5_0,
        CDL_DTYPE_Q5_1,
    CDL_DTYPE_Q8_0, CDL_DTYPE_Q2_K, CDL_DTYPE_Q3_K, CDL_DTYPE_Q4_K, CDL_DTYPE_Q5_K, CDL_DTYPE_Q6_K, CDL_DTYPE_IQ4_NL,
    CDL_DTYPE_IQ4_XS, CDL_DTYPE_MXFP4, CDL_DTYPE_I4_G32, CDL_DTYPE_I4_G64, CDL_DTYPE_I4_G128 };

/* Dense rows lie as they are in the file, zeros behind them: cuBLASLt reads them too. */
static void check_dense(const uint8_t *packed, const uint8_t *src, size_t row_bytes, uint32_t rows, uint32_t cols)
{
    const size_t pitch = cdl_repack_pitch(cols) * sizeof(uint16_t);
    const uint8_t zeros[64 * sizeof(uint16_t)] = { 0 };
    assert_true(pitch % sizeof zeros == 0 && pitch - row_bytes < sizeof zeros);
    for (uint32_t r = 0; r < rows; r++) {
        assert_memory_equal(packed + r * pitch, src + r * row_bytes, row_bytes);
        assert_memory_equal(packed + r * pitch + row_bytes, zeros, pitch - row_bytes);
    }
}

static void round_trip(cdl_dtype t, uint32_t rows, uint32_t cols)
{
    kernel_random random = { rows * 1000 + cols + (uint64_t)t };
    size_t row_bytes = kernel_row_bytes(t, cols), bytes;
    uint8_t *src = malloc(rows * row_bytes);
    float *want = malloc(cols * sizeof *want), *got = malloc(cols * sizeof *got);
    kernel_weights(src, t, (size_t)rows * cols, &random);
    assert_int_equal(cdl_repack_bytes(&bytes, t, rows, cols), CUDDLE_OK);
    uint8_t *packed = malloc(bytes);
    uint32_t tiles = (rows + 15) / 16;
    cdl_repack_tiles(packed, t, src, row_bytes, rows, cols, 0, 1);
    cdl_repack_tiles(packed, t, src, row_bytes, rows, cols, 1, tiles - 1);
    if (cdl_dtype_get(t)->block == 1)
        check_dense(packed, src, row_bytes, rows, cols);
    for (uint32_t r = 0; r < rows; r++) {
        cdl_dtype_to_f32(want, t, src + r * row_bytes, cols);
        cdl_repack_row(got, t, packed, cols, r);
        if (memcmp(want, got, cols * sizeof *want))
            for (uint32_t i = 0; i < cols; i++)
                if (want[i] != got[i])
                    fail_msg("%s [%u, %u]: weight (%u, %u) is %g, not %g", cdl_dtype_get(t)->name, rows, cols, r, i,
                        (double)got[i], (double)want[i]);
    }
    free(src);
    free(want);
    free(got);
    free(packed);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        uint32_t block = cdl_dtype_get(types[i])->block;
        round_trip(types[i], 16, block);
        round_trip(types[i], 35, 3 * block);
        round_trip(types[i], 17, block < 32 ? 72 : 5 * block);
    }
}

static void test_bytes_refused(void **state)
{
    size_t bytes;
    (void)state;
    assert_int_equal(cdl_repack_bytes(&bytes, CDL_DTYPE_I32, 16, 64), CUDDLE_ERR_UNSUPPORTED);
    assert_int_equal(cdl_repack_bytes(&bytes, CDL_DTYPE_Q4_K, 16, 128), CUDDLE_ERR_UNSUPPORTED);
    assert_int_equal(cdl_repack_bytes(&bytes, CDL_DTYPE_Q8_0, 1ull << 40, 64), CUDDLE_ERR_ARG);
    assert_int_equal(cdl_repack_bytes(&bytes, CDL_DTYPE_Q8_0, UINT64_MAX, UINT64_MAX - 31), CUDDLE_ERR_ARG);
    assert_int_equal(cdl_repack_bytes(&bytes, CDL_DTYPE_Q6_K, 16, 256), CUDDLE_OK);
    assert_int_equal(bytes, 16 * 210);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bytes_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
