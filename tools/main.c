/* main.c - the command `cuddle`: finds the subcommand and runs it. */
#include <string.h>

#include "base/env.h"
#include "cli.h"

#define X(name) extern const cli_command cmd_##name;
#include "commands.def"
#undef X

static const cli_command *const commands[] = {
#define X(name) &cmd_##name,
#include "commands.def"
#undef X
};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fputs("cuddle runs Hugging Face models natively.\n\nusage: cuddle COMMAND [arguments]\n\ncommands:\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\ncuddle COMMAND --help explains a command. cuddle --version prints the version.\n", out);
}

static void log_line(void *user, cuddle_log_level level, const char *line)
{
    if (level <= *(const cuddle_log_level *)user)
        fprintf(stderr, "%s\n", line);
}

/* CUDDLE_LOG names the level down to which lines are shown; warnings unless told. */
static void start_log(void)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    static cuddle_log_level level = CUDDLE_LOG_WARN;
    const char *wanted = cdl_env_get(CDL_ENV_CUDDLE_LOG);
    for (size_t i = 0; wanted && i < sizeof names / sizeof *names; i++)
        if (strcmp(wanted, names[i]) == 0)
            level = (cuddle_log_level)i;
    cuddle_log_set(log_line, &level);
}

int main(int argc, char **argv)
{
    start_log();
    const char *name = argc > 1 ? argv[1] : NULL;
    if (name && (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)) {
        printf("cuddle %s\n", cuddle_version());
        return CLI_OK;
    }
    bool asked = name && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0);
    if (!name || asked) {
        print_help(asked ? stdout : stderr);
        return asked ? CLI_OK : CLI_USAGE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i]->name) == 0) {
            int code = cli_run(commands[i], argc - 1, argv + 1);
            if (fflush(stdout) != 0 || ferror(stdout))
                return cli_fail("stdout cannot be written");
            return code;
        }
    cli_fail("there is no command '%s'; see cuddle --help", name);
    return CLI_USAGE;
}
