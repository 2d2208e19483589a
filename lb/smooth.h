/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_SMOOTH_H
#define LB_SMOOTH_H

#include <stdint.h>

/*
 * Smooth weighted round robin, as NGINX does it, as a sequence: at each step every member's credit
 * grows by its weight; the one with the most (of several the first) is next and pays the sum of all
 * weights. After sum / gcd steps all credits are zero again and the sequence repeats: weights 5, 1,
 * 1 give a a b a c a a.
 */
#define LB_SMOOTH_MAX 65536u       /* longest sequence */
#define LB_SMOOTH_MAX_MEMBERS 65535u

/**
 * Length of the sequence of @p n weights (1..LB_SMOOTH_MAX_MEMBERS of them, each 1..65535): their
 * sum divided by their greatest common divisor. If that is more than LB_SMOOTH_MAX, or so long with so
 * many different weights that it would take long to compute, the weights are first scaled down
 * (rounded down, but at least 1), so that shares are nearly as wanted. 0 for n = 0.
 */
uint32_t lb_smooth_length(const uint32_t *weights, uint32_t n);

/**
 * Write the sequence. @param sequence lb_smooth_length() indexes of members.
 * @return 0; -ENOMEM.
 */
int lb_smooth_fill(const uint32_t *weights, uint32_t n, uint16_t *sequence);

#endif
