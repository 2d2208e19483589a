/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_NOTIFY_H
#define LB_NOTIFY_H

/**
 * Tell the service manager about our state, by systemd's readiness protocol (sd_notify(3)): one
 * datagram to the socket that $NOTIFY_SOCKET names, by path or, with a leading "@", in the abstract
 * namespace.
 *
 * @param state newline-separated assignments: "READY=1", "STOPPING=1", "RELOADING=1", "STATUS=…".
 * @return 0 (also when nobody asked: the variable is unset or empty); -EINVAL neither a path nor
 * "@"; -ENAMETOOLONG; -errno of socket(2) or sendto(2). Any thread that does not change the
 * environment.
 */
int lb_notify(const char *state);

#endif
