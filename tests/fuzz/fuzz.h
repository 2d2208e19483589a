/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_TESTS_FUZZ_H
#define LB_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/** What libFuzzer, or replay.c in its place, calls for each input; aborts if something is wrong. @return 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#endif
