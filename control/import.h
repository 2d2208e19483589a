/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_IMPORT_H
#define LB_CONTROL_IMPORT_H

#include <stdint.h>
#include <stdio.h>

#include "control/nginx.h"

/*
 * What of an NGINX configuration has a meaning at layer 4: one service per address and port that a
 * server listens on, with the servers of its upstream as backends. Everything else becomes a note
 * that says where it belongs.
 */

struct lb_import_note {
	char *where; /* "nginx.conf:12" */
	char *what;  /* the directive, shortened: "ssl_certificate /etc/..." */
	char *why;
};

struct lb_import_notes {
	struct lb_import_note *notes;
	size_t n;
};

struct lb_import_backend {
	char *address; /* or a host name */
	uint64_t hash; /* of address and port */
	unsigned port;
	unsigned weight;
	bool backup, down;
	char *name;
};

struct lb_import_service {
	char *name;
	char *vip;
	bool vip_given; /* else `vip` is an address for documentation, to be replaced */
	unsigned port;
	const char *protocol, *scheduler, *check; /* check: NULL none wanted */
	unsigned fall;
	char *idle_timeout, *slow_start; /* NULL: default */
	struct lb_import_backend *backends;
	size_t n_backends;
	char *unusable; /* why it has to be printed as a comment; NULL: it is good */
	bool is_fullnat; /* printed as that, which it would be good as */
	struct lb_import_notes notes;
};

struct lb_import {
	const char *vip4, *vip6; /* for servers that listen on any address; NULL: not known */
	struct lb_import_service *services;
	size_t n_services;
	struct lb_import_notes notes; /* of what is outside of any service */
};

/**
 * Fill @p import from a configuration. Nothing in it is an error: what cannot be said in our terms
 * is noted.
 * @param import zeroed but for vip4 and vip6; to be freed by lb_import_fini().
 */
void lb_import_nginx(struct lb_import *import, const struct lb_nginx *nginx);
/** Print it as a configuration (docs/config.md), notes as comments. @param file what it was made
 * from. */
void lb_import_print(FILE *out, const struct lb_import *import, const char *file);

/** How many services and backends lb_import_print() prints, but as comments. */
size_t lb_import_count(const struct lb_import *import, size_t *n_backends);

void lb_import_fini(struct lb_import *import);

#endif
