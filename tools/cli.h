/* cli.h - what the subcommands of `cuddle` share: the table of commands, options, messages.
 *
 * A subcommand is one file, tools/cmd_<name>.c, with one `const cli_command cmd_<name>`
 * listed in tools/commands.def. Results go to stdout, everything else to stderr.
 * Exit codes: 0 done, 1 it failed (one line says why), 2 wrong use.
 */
#ifndef CLI_H
#define CLI_H

#include <stdio.h>

#include "cuddle.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef enum {
    CLI_FLAG,    /* bool *: set to true                          */
    CLI_INT,     /* int64_t *: decimal, within [min, max]        */
    CLI_DOUBLE,  /* double *: within [min, max]                  */
    CLI_STRING,  /* const char **                                */
    CLI_LIST,    /* cli_list *: may be given several times       */
    CLI_HEADING  /* no option: a heading in --help               */
} cli_type;

typedef struct {
    const char **items;
    size_t n;
} cli_list;

typedef struct {
    const char *name;      /* "threads" for --threads                               */
    char letter;           /* 't' for -t, or 0                                      */
    cli_type type;
    void *dest;
    const char *arg;       /* "N", "FILE"; shown in --help                          */
    const char *help;      /* one line, with the default                            */
    double min, max;       /* of INT and DOUBLE; both 0: no limit                   */
} cli_option;

typedef struct {
    const char *name;      /* "run"                                                 */
    const char *summary;   /* one line for `cuddle --help`                          */
    const char *synopsis;  /* "MODEL [PROMPT] [options]"                            */
    const char *details;   /* paragraphs and examples below the options, or NULL    */
    const cli_option *options;
    size_t n_options;
    int args_min, args_max; /* arguments that are no options                        */
    int (*run)(char **args); /* those, NULL after the last; gives the exit code     */
} cli_command;

/* Parses argv (argv[0]: the subcommand's name) into the options' dest, moves what is left over to its front
 * and runs the command; gives the exit code.
 * --name V, --name=V, -n V, -nV, --no-name for flags, -- ends options; "-" is an argument. Without running:
 * --help prints it and gives 0; wrong use gives 2, with one line and the nearest option's name on stderr. */
int cli_run(const cli_command *cmd, int argc, char **argv);

/* "cuddle run: <message>" on stderr, in red on a terminal; gives CLI_FAILED. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with cuddle_errmsg(). */
int cli_fail_status(void);
/* A note for the user on stderr (dimmed on a terminal); not shown with --quiet. */
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

bool cli_stdout_is_terminal(void);
bool cli_stderr_is_terminal(void);

/* A cuddle_progress_fn: a bar on stderr when stderr is a terminal and the work has
 * lasted over a second; false after Ctrl-C. user: NULL. */
bool cli_progress(void *user, const char *what, uint64_t done, uint64_t total);
/* Removes the bar. */
void cli_progress_end(void);

/* True once Ctrl-C was pressed (the first press; the second ends the process). */
bool cli_interrupted(void);
void cli_catch_interrupt(void); /* from here on; an earlier press is forgotten */

/* All of stdin, NUL-terminated, at most max bytes; NULL with a message. Free with free(). */
char *cli_read_stdin(size_t *len, size_t max);

double cli_seconds(void); /* monotonic */

/* The processor's name as Linux has it; "unknown". */
void cli_cpu_name(char *out, size_t size);

#endif
