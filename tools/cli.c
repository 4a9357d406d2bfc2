#define _GNU_SOURCE
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"

static const char *program = "cuddle"; /* "cuddle run" once a subcommand was parsed */
static char program_text[64];

/* ---- Messages ---- */

bool cli_stdout_is_terminal(void)
{
    return isatty(STDOUT_FILENO);
}

bool cli_stderr_is_terminal(void)
{
    return isatty(STDERR_FILENO);
}

static const char *colour(const char *sequence)
{
    return cli_stderr_is_terminal() && !cdl_env_get(CDL_ENV_NO_COLOR) ? sequence : "";
}

static void say(const char *on, const char *fmt, va_list ap)
{
    cli_progress_end();
    fprintf(stderr, "%s%s: ", colour(on), program);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "%s\n", colour("\033[0m"));
}

int cli_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("\033[31m", fmt, ap);
    va_end(ap);
    return CLI_FAILED;
}

int cli_fail_status(void)
{
    return cli_fail("%s", cuddle_errmsg());
}

void cli_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("\033[2m", fmt, ap);
    va_end(ap);
}

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Interrupts and progress ---- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    interrupted = 1;
    signal(sig, SIG_DFL); /* the second press ends the process */
}

void cli_catch_interrupt(void)
{
    interrupted = 0;
    signal(SIGINT, on_interrupt);
}

bool cli_interrupted(void)
{
    return interrupted;
}

static struct {
    const char *what;
    double start, drawn;
    bool visible;
} bar;

enum { BAR_CELLS = 30 };

bool cli_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)user;
    double now = cli_seconds();
    if (!bar.what || strcmp(bar.what, what) != 0) {
        cli_progress_end();
        bar.what = what;
        bar.start = now;
    }
    if (cli_stderr_is_terminal() && now - bar.start > 1 && now - bar.drawn > 0.1) {
        double part = total ? (double)done / (double)total : 0;
        part = part < 1 ? part : 1;
        int full = (int)(part * BAR_CELLS);
        fprintf(stderr, "\r%s [%.*s%*s] %3.0f %%  %.0f s left \033[K", what, full,
                "##############################", BAR_CELLS - full, "", 100 * part,
                part > 0 ? (now - bar.start) * (1 - part) / part : 0.0);
        bar.drawn = now;
        bar.visible = true;
    }
    return !interrupted;
}

void cli_progress_end(void)
{
    if (bar.visible)
        fputs("\r\033[K", stderr);
    bar.visible = false;
    bar.what = NULL;
}

char *cli_read_stdin(size_t *len, size_t max)
{
    char *text = NULL;
    size_t n = 0, cap = 0, got;
    do {
        if (cap - n < 2) {
            cap = cap ? 2 * cap : 65536;
            char *more = realloc(text, cap);
            if (!more) {
                cli_fail("out of memory while reading stdin");
                free(text);
                return NULL;
            }
            text = more;
        }
        got = fread(text + n, 1, cap - n - 1, stdin);
        n += got;
    } while (got && n <= max);
    if (ferror(stdin) || n > max) {
        cli_fail(n > max ? "stdin holds more than %zu bytes" : "stdin cannot be read", max);
        free(text);
        return NULL;
    }
    text[n] = '\0';
    *len = n;
    return text;
}

/* ---- Options ---- */

/* Edits (insert, delete, replace) from a to b, for "did you mean". */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= 64)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t least = diagonal + (*a != b[j - 1]);
            diagonal = row[j];
            least = row[j] + 1 < least ? row[j] + 1 : least;
            row[j] = row[j - 1] + 1 < least ? row[j - 1] + 1 : least;
        }
    }
    return row[n];
}

static void suggest(const char *given, const cli_option *options, size_t n)
{
    const char *best = NULL;
    size_t least = 4;
    for (size_t i = 0; i < n; i++) {
        size_t d = options[i].type == CLI_HEADING ? SIZE_MAX : edit_distance(given, options[i].name);
        if (d < least) {
            least = d;
            best = options[i].name;
        }
    }
    if (best)
        cli_fail("there is no option --%s; did you mean --%s?", given, best);
    else
        cli_fail("there is no option --%s; see %s --help", given, program);
}

static void print_option(const cli_option *o)
{
    char left[64];
    if (o->type == CLI_HEADING) {
        printf("\n%s:\n", o->help);
        return;
    }
    int n = o->letter ? snprintf(left, sizeof left, "-%c, --%s", o->letter, o->name)
                      : snprintf(left, sizeof left, "    --%s", o->name);
    if (o->type != CLI_FLAG)
        snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg);
    printf("  %-28s %s\n", left, o->help);
}

static void print_help(const cli_command *cmd)
{
    printf("cuddle %s - %s\n\nusage: cuddle %s %s\n\noptions:\n", cmd->name, cmd->summary, cmd->name, cmd->synopsis);
    for (size_t i = 0; i < cmd->n_options; i++)
        print_option(&cmd->options[i]);
    printf("  %-28s %s\n", "-h, --help", "show this");
    if (cmd->details)
        printf("\n%s", cmd->details);
}

static bool in_range(const cli_option *o, double v)
{
    if ((o->min == 0 && o->max == 0) || (v >= o->min && v <= o->max))
        return true;
    cli_fail("--%s takes %.15g to %.15g, not %.15g", o->name, o->min, o->max, v);
    return false;
}

static bool add_item(cli_list *list, const char *value)
{
    const char **more = realloc(list->items, (list->n + 1) * sizeof *more);
    if (!more) {
        cli_fail("out of memory");
        return false;
    }
    list->items = more;
    list->items[list->n++] = value;
    return true;
}

/* Stores value (of a flag: NULL) into the option's destination. */
static bool set_option(const cli_option *o, const char *value, bool flag)
{
    char *end;
    errno = 0;
    switch (o->type) {
    case CLI_FLAG:
        *(bool *)o->dest = flag;
        return true;
    case CLI_STRING:
        *(const char **)o->dest = value;
        return true;
    case CLI_LIST:
        return add_item(o->dest, value);
    case CLI_INT: {
        long long v = strtoll(value, &end, 10);
        if (end == value || *end || errno) {
            cli_fail("--%s takes a whole number, not '%s'", o->name, value);
            return false;
        }
        *(int64_t *)o->dest = v;
        return in_range(o, (double)v);
    }
    case CLI_DOUBLE: {
        double v = strtod(value, &end);
        if (end == value || *end || !isfinite(v)) {
            cli_fail("--%s takes a number, not '%s'", o->name, value);
            return false;
        }
        *(double *)o->dest = v;
        return in_range(o, v);
    }
    case CLI_HEADING:
        break;
    }
    return false;
}

static const cli_option *find_long(const cli_command *cmd, const char *name, size_t len)
{
    for (size_t i = 0; i < cmd->n_options; i++) {
        const cli_option *o = &cmd->options[i];
        if (o->type != CLI_HEADING && strlen(o->name) == len && strncmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

static const cli_option *find_letter(const cli_command *cmd, char letter)
{
    for (size_t i = 0; i < cmd->n_options; i++)
        if (cmd->options[i].type != CLI_HEADING && cmd->options[i].letter == letter)
            return &cmd->options[i];
    return NULL;
}

/* "--name", "--name=V", "--no-name" at argv[*i]. */
static bool take_long(const cli_command *cmd, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const cli_option *o = find_long(cmd, name, len);
    if (!o && !equals && strncmp(name, "no-", 3) == 0) {
        o = find_long(cmd, name + 3, len - 3);
        if (o && o->type == CLI_FLAG)
            return set_option(o, NULL, false);
        o = NULL;
    }
    if (!o) {
        char given[64];
        snprintf(given, sizeof given, "%.*s", (int)len, name);
        suggest(given, cmd->options, cmd->n_options);
        return false;
    }
    if (o->type == CLI_FLAG) {
        if (equals)
            cli_fail("--%s takes no value", o->name);
        return !equals && set_option(o, NULL, true);
    }
    if (!equals && *i + 1 >= argc) {
        cli_fail("--%s needs a value: --%s %s", o->name, o->name, o->arg);
        return false;
    }
    return set_option(o, equals ? equals + 1 : argv[++*i], true);
}

/* "-n V", "-nV", "-ab" for flags at argv[*i]. */
static bool take_short(const cli_command *cmd, int argc, char **argv, int *i)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const cli_option *o = find_letter(cmd, *p);
        if (!o) {
            cli_fail("there is no option -%c; see %s --help", *p, program);
            return false;
        }
        if (o->type != CLI_FLAG) {
            if (!p[1] && *i + 1 >= argc) {
                cli_fail("-%c needs a value: -%c %s", *p, *p, o->arg);
                return false;
            }
            return set_option(o, p[1] ? p + 1 : argv[++*i], true);
        }
        if (!set_option(o, NULL, true))
            return false;
    }
    return true;
}

/* args may be argv's own place: they never overtake. True to go on; false to end with *exit_code. */
static bool parse(const cli_command *cmd, int argc, char **argv, char **args, int *exit_code)
{
    bool options_end = false;
    int n = 0;
    *exit_code = CLI_USAGE;
    for (int i = 1; i < argc; i++) {
        char *a = argv[i];
        if (!options_end && strcmp(a, "--") == 0) {
            options_end = true;
        } else if (!options_end && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)) {
            print_help(cmd);
            *exit_code = CLI_OK;
            return false;
        } else if (!options_end && a[0] == '-' && a[1]) {
            if (!(a[1] == '-' ? take_long(cmd, argc, argv, &i) : take_short(cmd, argc, argv, &i)))
                return false;
        } else if (n == cmd->args_max) {
            cli_fail("'%s' is one argument too many; usage: cuddle %s %s", a, cmd->name, cmd->synopsis);
            return false;
        } else {
            args[n++] = a;
        }
    }
    args[n] = NULL;
    if (n < cmd->args_min) {
        cli_fail("an argument is missing; usage: cuddle %s %s", cmd->name, cmd->synopsis);
        return false;
    }
    return true;
}

int cli_run(const cli_command *cmd, int argc, char **argv)
{
    char **args = argv + 1;
    int exit_code;
    snprintf(program_text, sizeof program_text, "cuddle %s", cmd->name);
    program = program_text;
    return parse(cmd, argc, argv, args, &exit_code) ? cmd->run(args) : exit_code;
}

void cli_cpu_name(char *out, size_t size)
{
    char line[256];
    snprintf(out, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strstr(line, ": ");
        if (value && !strncmp(line, "model name", 10)) {
            value[strcspn(value, "\n")] = '\0';
            snprintf(out, size, "%.*s", (int)size - 1, value + 2);
            break;
        }
    }
    if (f)
        fclose(f);
}
