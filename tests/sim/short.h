/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The oracle's short set: what `scripts/test sim` runs. Same rules as the long one (`scripts/bench sim`), with
 * fewer servers and flows, an idle timeout of 100 s, and 5 minutes of virtual time. In programs of about the same length,
 * which run side by side.
 */
#ifndef TESTS_SIM_SHORT_H
#define TESTS_SIM_SHORT_H

#include <stdint.h>

#include "tests/sim/sim.h"

#define SHORT_FLOWS 20000u
// Changes per minute that make 10 per idle timeout.
#define TEN_PER_TIMEOUT 6.0

/** @return what all runs have in common. @param table_flows room in the flow table */
struct sim_config short_config(enum sim_strategy strategy, double changes_per_minute, uint32_t table_flows);

/** Run, print, and assert that the run was one in which something could break. */
struct sim_result short_run(const struct sim_config *config);

/** A group's fixtures: EAL up and down. @return 0 */
int short_set_up(void **state);
int short_tear_down(void **state);

#endif
