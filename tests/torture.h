/* torture.h - runs a function with its n-th allocation failing, for n = 1, 2, ... until it passes.
 *
 * The function builds something, uses it and frees it; it must give NOMEM (with an error line) when
 * an allocation failed, and nothing else may be lost: leaks show under AddressSanitizer, which
 * `make test` uses.
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cuddle.h"

typedef cuddle_status (*torture_fn)(void *user);

/* Fails each allocation once, in turn. With sticky all later ones fail too. step > 1 tries only
 * every step-th. Returns how many the function makes when none fails. */
static inline long torture(torture_fn fn, void *user, bool sticky, long step)
{
    size_t before = cdl_mem_count();
    assert_int_equal(fn(user), CUDDLE_OK);
    long n = (long)(cdl_mem_count() - before);
    for (long i = 1; i <= n; i += step) {
        cdl_mem_fail_nth(i, sticky);
        cuddle_status st = fn(user);
        cdl_mem_fail_nth(0, false);
        if (st != CUDDLE_ERR_NOMEM)
            fail_msg("allocation %ld of %ld failed, and the status is \"%s\" (%s)", i, n,
                    cuddle_status_name(st), cuddle_errmsg());
        assert_true(cuddle_errmsg()[0] != '\0');
    }
    assert_int_equal(fn(user), CUDDLE_OK);
    return n;
}

#endif
