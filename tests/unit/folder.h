/* folder.h - what tests of files share: a temporary folder for each test, and calls that must work. */
#ifndef FOLDER_H
#define FOLDER_H

#include "torture.h"
#include "tiny.h"

static char *folder;

static inline int set_up(void **state)
{
    (void)state;
    folder = tiny_folder();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    tiny_remove(folder);
    return 0;
}

static inline void must(cuddle_status st)
{
    if (st != CUDDLE_OK)
        fail_msg("%s", cuddle_errmsg());
}

#endif
