/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_PRIVILEGES_H
#define LB_CONTROL_PRIVILEGES_H

/**
 * Give up, for this process and what it starts, every capability but those that the daemon needs from now on:
 * CAP_NET_ADMIN (neighbours, announced routes), CAP_DAC_READ_SEARCH (a config file of another owner is loaded
 * again), CAP_SETUID, CAP_SETGID and CAP_KILL (health checks' programs become another user, without any, and are
 * killed at their timeout). No program it starts can gain any
 * (no_new_privs). For a daemon started by root; under a user of its own there is nothing to give up.
 * @return 0; -errno. One thread.
 */
int lb_privileges_drop(void);

#endif
