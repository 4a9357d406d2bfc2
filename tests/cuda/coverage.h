/* coverage.h - whether a test program ran what it answers for: every kernel of its modules, in three grids at least.
 * Last among the tests of the program. */
#ifndef TEST_COVERAGE_H
#define TEST_COVERAGE_H

#include <glob.h>

#include "device.h"

/* Every module, a file of cuda/, and the program whose tests cover it; test_kernels sees to it that none is missing. */
static const struct { const char *module, *program; } coverage[] = {
    { "act", "kernels" }, { "act_mul", "kernels" }, { "add", "kernels" }, { "gather", "kernels" },
    { "layernorm", "kernels" }, { "rmsnorm", "kernels" }, { "scale", "kernels" }, { "softcap", "kernels" },
    { "linear_4bit", "linear" }, { "linear_8bit", "linear" }, { "linear_dense", "linear" },
    { "linear_k_high", "linear" }, { "linear_k_low", "linear" }, { "linear_mixed", "linear" },
    { "linear_int4", "linear" }, { "linear_finish", "linear" },
    { "wgmma_4bit", "wgmma" }, { "wgmma_8bit", "wgmma" }, { "wgmma_dense", "wgmma" }, { "wgmma_int4", "wgmma" },
    { "wgmma_k_high", "wgmma" }, { "wgmma_k_low", "wgmma" },
    { "attn_d64", "attention" }, { "attn_d96", "attention" }, { "attn_d128", "attention" },
    { "attn_d192", "attention" }, { "attn_d256", "attention" }, { "attn_d64_8", "attention" },
    { "attn_d96_8", "attention" }, { "attn_d128_8", "attention" }, { "attn_d192_8", "attention" },
    { "attn_d256_8", "attention" }, { "rope_state", "attention" },
    { "sample", "sample" }, { "peak", "kernels" },
};
enum { COVERED_MODULES = sizeof coverage / sizeof *coverage };

static inline unsigned coverage_kernels(const char *module)
{
    char path[96], line[512], name[96];
    unsigned n = 0;
    snprintf(path, sizeof path, "build/cuda/%s.ptx", module);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s is missing: run make cuda", path);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, ".visible .entry %95[A-Za-z0-9_]", name) == 1) {
            unsigned shapes = driver_record_of(name)->shapes;
            if (shapes < DRIVER_SHAPES)
                fail_msg("%s: %s ran in %u shapes, of at least %u", module, name, shapes, DRIVER_SHAPES);
            n++;
        }
    fclose(f);
    return n;
}

static inline void coverage_of(const char *program)
{
    unsigned n = 0;
    for (int i = 0; i < COVERED_MODULES; i++)
        if (!strcmp(coverage[i].program, program))
            n += coverage_kernels(coverage[i].module);
    printf("  %u kernels, each in %u shapes or more\n", n, DRIVER_SHAPES);
    assert_true(n > 0);
}

/* Every module loads, and has a program. */
static inline void coverage_is_whole(void)
{
    glob_t g;
    assert_int_equal(glob("cuda/*.cu", 0, NULL, &g), 0);
    assert_int_equal(glob("cuda/*/*.cu", GLOB_APPEND, NULL, &g), 0);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        char name[64];
        assert_int_equal(sscanf(strrchr(g.gl_pathv[i], '/'), "/%63[a-z0-9_]", name), 1);
        int k = 0;
        while (k < COVERED_MODULES && strcmp(coverage[k].module, name))
            k++;
        if (k == COVERED_MODULES)
            fail_msg("no test covers %s: name one in coverage.h", g.gl_pathv[i]);
        if (strncmp(name, "wgmma", 5) || driver_has_wgmma())
            driver_module(name);
    }
    globfree(&g);
}

#endif
