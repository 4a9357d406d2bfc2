/* test_counters.c - the virtual GPU's counters against kernels whose requests can be counted by hand. */
#include "vgpu.h"

#include <unistd.h>

static char path[] = "/tmp/cuddle-vgpu-XXXXXX";

/* One warp runs the body: %t is the lane, %p the buffer of 8 KiB, shared memory begins at %m. The line it wrote. */
static const char *counted(const char *body)
{
    static char text[8192], line[65536];
    static uint8_t zero[8192];
    snprintf(text, sizeof text, ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry one(.param .u64 p)\n{\n"
             ".reg .b32 %%t, %%a, %%b, %%m, %%n;\n.reg .b64 %%p, %%x;\n.reg .f32 %%f<4>;\n.reg .pred %%q;\n"
             ".shared .align 128 .b8 buffer[8192];\n"
             "mov.u32 %%t, %%tid.x;\nmov.u32 %%m, buffer;\nld.param.u64 %%p, [p];\n%s\nret;\n}\n", body);
    assert_int_equal(truncate(path, 0), 0);
    setenv("CUDDLE_VGPU_COUNTERS", path, 1);
    CUdeviceptr p = upload(zero, sizeof zero);
    check(run(text, "one", 1, 32, (void *[]){&p}));
    unsetenv("CUDDLE_VGPU_COUNTERS");
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    line[fread(line, 1, sizeof line - 1, f)] = 0;
    fclose(f);
    check(p_cuMemFree(p));
    return line;
}

static int number(const char *line, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(line, key);
    assert_non_null(at);
    return (int)strtol(at + strlen(key), NULL, 10);
}

static void test_sectors_of_strides(void **state)
{
    static const struct { int stride, bytes, sectors; } cases[] = {
        {0, 4, 1}, {4, 4, 4}, {8, 4, 8}, {32, 4, 32}, {64, 4, 32}, {128, 4, 32}, {16, 16, 16}, {32, 16, 32},
        {48, 16, 32}, {2, 2, 2}, {1, 1, 1}, {80, 8, 32}, {20, 4, 20},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = cases[i].bytes;
        char body[512];
        const char *load = n == 16 ? "v4.f32 {%f0, %f1, %f2, %f3}" : n == 8 ? "v2.f32 {%f0, %f1}" : n == 4 ? "f32 %f0"
            : n == 2 ? "u16 %a" : "u8 %a";
        const char *store = n == 16 ? "v4.f32 [%x], {%f0, %f1, %f2, %f3}" : n == 8 ? "v2.f32 [%x], {%f0, %f1}"
            : n == 4 ? "f32 [%x], %f0" : n == 2 ? "u16 [%x], %a" : "u8 [%x], %a";
        snprintf(body, sizeof body, "mul.wide.u32 %%x, %%t, %d; add.s64 %%x, %%x, %%p;\nld.global.%s, [%%x];\n"
                 "ld.global.%s, [%%x];\nst.global.%s;", cases[i].stride, load, load, store);
        const char *line = counted(body);
        assert_int_equal(number(line, "read_sectors"), 2 * cases[i].sectors);
        assert_int_equal(number(line, "unique_read"), 32 * cases[i].sectors);
        assert_int_equal(number(line, "written_sectors"), cases[i].sectors);
        assert_int_equal(number(line, "unique_written"), 32 * cases[i].sectors);
        assert_int_equal(number(line, "requests"), 3);
        assert_int_equal(number(line, "bytes"), 3 * 32 * n);
    }
}

static void test_asynchronous_copies_count_as_reads(void **state)
{
    (void)state;
    const char *line = counted("mul.wide.u32 %x, %t, 16; add.s64 %x, %x, %p; mad.lo.s32 %m, %t, 16, %m;\n"
        "cp.async.cg.shared.global [%m], [%x], 16;\ncp.async.wait_all;");
    assert_int_equal(number(line, "read_sectors"), 16);
    assert_int_equal(number(line, "shared_wavefronts"), 4);
    assert_int_equal(number(line, "shared_ideal"), 4);
}

static void test_wavefronts_of_strides(void **state)
{
    static const struct { int stride, words, wavefronts, ideal; } cases[] = {
        {0, 1, 1, 1}, {4, 1, 1, 1}, {8, 1, 2, 1}, {12, 1, 1, 1}, {16, 1, 4, 1}, {128, 1, 32, 1}, {132, 1, 1, 1},
        {8, 2, 2, 2}, {16, 4, 4, 4}, {32, 4, 8, 4}, {128, 4, 32, 4}, {144, 4, 4, 4},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[512];
        const char *form = cases[i].words == 4 ? "v4.f32 [%m], {%f0, %f1, %f2, %f3}"
            : cases[i].words == 2 ? "v2.f32 [%m], {%f0, %f1}" : "f32 [%m], %f0";
        snprintf(body, sizeof body, "mad.lo.s32 %%m, %%t, %d, %%m;\nst.shared.%s;", cases[i].stride, form);
        const char *line = counted(body);
        assert_int_equal(number(line, "shared_wavefronts"), cases[i].wavefronts);
        assert_int_equal(number(line, "shared_ideal"), cases[i].ideal);
        assert_int_equal(number(line, "shared_requests"), 1);
    }
}

static void test_instructions_and_branches(void **state)
{
    (void)state;
    const char *line = counted("setp.lt.u32 %q, %t, 7;\n@%q bra less;\nmov.u32 %a, 1;\nmov.u32 %a, 2;\nless:\n"
        "setp.lt.u32 %q, %t, 99;\n@%q bra all;\nmov.u32 %b, 1;\nall:\nmov.u32 %a, 3;");
    assert_int_equal(number(line, "branches"), 2);
    assert_int_equal(number(line, "divergent_branches"), 1);
    /* three at the start and ret; setp, bra (7 lanes), setp, bra, mov; two mov of 25 lanes */
    assert_int_equal(number(line, "warp_instructions"), 4 + 5 + 2);
    assert_int_equal(number(line, "mov.u32"), 2 + 3);
    assert_int_equal(number(line, "lane_instructions"), 4 * 32 + 2 * 32 + 7 + 32 + 2 * 25 + 32);
}

static void test_mma_are_counted(void **state)
{
    (void)state;
    const char *line = counted("mov.u32 %a, 0; mov.f32 %f0, 0f00000000;\n"
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%a, %a, %a, %a}, {%a, %a}, "
        "{%f0, %f0, %f0, %f0};\n"
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%a, %a, %a, %a}, {%a, %a}, "
        "{%f0, %f0, %f0, %f0};");
    assert_int_equal(number(line, "mma"), 2);
}

static int counters_open(void **state)
{
    int f = mkstemp(path);
    if (f < 0)
        return 1;
    close(f);
    return open_library(state);
}

static int counters_close(void **state)
{
    (void)state;
    return remove(path);
}

#define T(name) cmocka_unit_test_setup_teardown(name, context_open, context_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_sectors_of_strides), T(test_asynchronous_copies_count_as_reads), T(test_wavefronts_of_strides),
        T(test_instructions_and_branches), T(test_mma_are_counted),
    };
    return cmocka_run_group_tests(tests, counters_open, counters_close);
}
