/* cmd_convert.c - `cuddle convert`: any model to one GGUF file, quantised. */
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli.h"
#include "hub/hub.h"
#include "model/convert.h"

static const char *type = "f16";
static bool force, quiet;
static int64_t threads;

static const cli_option options[] = {
    { "quantize", 'q', CLI_STRING, &type, "TYPE", "type of the products (default: f16); see below", 0, 0 },
    { "force", 'f', CLI_FLAG, &force, NULL, "replace OUT when it is there", 0, 0 },
    { "threads", 't', CLI_INT, &threads, "N", "threads (default: all processors)", 1, 1024 },
    { "quiet", 0, CLI_FLAG, &quiet, NULL, "no notes", 0, 0 },
};

static void note(void *user, const char *line)
{
    (void)user;
    if (!quiet)
        cli_note("%s", line);
}

static int run(char **args);
const cli_command cmd_convert = {
    "convert", "write a model as one GGUF file", "IN OUT.gguf [--quantize TYPE]",
    "IN is a folder, a .gguf file or a name, as everywhere. The file holds weights, tokenizer and chat template,\n"
    "and runs in llama.cpp too.\n\n"
    "types: f32, f16, bf16; in blocks of 32 weights q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl; of 256 q6_k, q5_k, q4_k,\n"
    "q3_k, q2_k; mixes q5_k_m, q4_k_m, q4_k_s (some layers get more bits). Norms and biases stay f32, the head gets\n"
    "q6_k or q8_0. A width that is no multiple of the block takes the next finer type.\n",
    options, sizeof options / sizeof *options, 2, 2, run };

static cuddle_status convert(const char *in, const char *out)
{
    cdl_convert_opts o = { .type = type, .threads = (uint32_t)threads, .progress = cli_progress, .note = note };
    cdl_checkpoint *c = NULL;
    char *path;
    CDL_TRY(cdl_hub_resolve(&path, in));
    cuddle_status st = cdl_checkpoint_open(&c, path, false);
    if (st == CUDDLE_OK)
        st = cdl_convert(c, out, &o);
    cli_progress_end();
    cdl_checkpoint_close(c);
    cdl_mem_free(path);
    return st;
}

static int run(char **args)
{
    const char *dot = strrchr(args[1], '.');
    if (!dot || strcmp(dot, ".gguf") != 0) {
        cli_fail("%s: the output's name must end in .gguf", args[1]);
        return CLI_USAGE;
    }
    if (!force && access(args[1], F_OK) == 0)
        return cli_fail("%s is there already; give --force to replace it", args[1]);
    cli_catch_interrupt();
    return convert(args[0], args[1]) == CUDDLE_OK ? CLI_OK : cli_fail_status();
}
