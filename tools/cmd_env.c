/* cmd_env.c - `cuddle env`: the version, what this machine has, and the environment that cuddle reads. */
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/json.h"
#include "cli.h"
#include "cpu/cpu.h"

static bool json;

static const cli_option options[] = {
    { "json", 0, CLI_FLAG, &json, NULL, "print JSON", 0, 0 },
};

static const char *kernels(void)
{
    const cdl_cpu_set *set;
    return cdl_cpu_select(&set, NULL) == CUDDLE_OK ? set->name : "ref";
}

static cuddle_status put_json(cdl_buf *b)
{
    CDL_TRY(cdl_buf_printf(b, "{\"version\":\"%s\",\"cpu\":\"%s\",\"threads\":%u,\"environment\":{",
            cuddle_version(), kernels(), cdl_pool_default_threads()));
    for (cdl_env e = 0; e < CDL_ENV_COUNT; e++) {
        const char *value = cdl_env_get(e);
        CDL_TRY(cdl_buf_printf(b, "%s\"%s\":", e ? "," : "", cdl_env_name(e)));
        CDL_TRY(value ? cdl_json_put_string(b, value, strlen(value)) : cdl_buf_puts(b, "null"));
    }
    return cdl_buf_puts(b, "}}");
}

static int run(char **args);
const cli_command cmd_env = {
    "env", "show the version, this machine and the environment", "[options]", NULL,
    options, sizeof options / sizeof *options, 0, 0, run };

static int run(char **args)
{
    (void)args;
    if (json) {
        cdl_buf b = { 0 };
        int code = put_json(&b) == CUDDLE_OK ? (puts(b.data), CLI_OK) : cli_fail_status();
        cdl_buf_free(&b);
        return code;
    }
    printf("cuddle %s\nkernels %s, %u threads\n\n", cuddle_version(), kernels(), cdl_pool_default_threads());
    for (cdl_env e = 0; e < CDL_ENV_COUNT; e++) {
        const char *value = cdl_env_get(e);
        printf("%-22s %-12s %s\n", cdl_env_name(e), value ? value : "-", cdl_env_help(e));
    }
    return CLI_OK;
}
