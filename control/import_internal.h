/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_IMPORT_INTERNAL_H
#define LB_CONTROL_IMPORT_INTERNAL_H

#include "control/import.h"

/* Between import.c (servers become services) and import_upstream.c (upstreams become backends;
 * notes). */

struct lb_import_upstream {
	const char *name;
	const struct lb_nginx_directive *block;
	bool is_stream, is_either; /* either: outside of http and stream, in a file cut out of one of them */
	unsigned n_used;	   /* by how many services */
};

struct lb_import_server {
	const struct lb_nginx_directive *block;
	bool is_stream;
};

struct lb_import_scan {
	struct lb_import *import;
	struct lb_import_upstream *upstreams;
	size_t n_upstreams;
	struct lb_import_server *servers;
	size_t n_servers;
	bool server_noted; /* the server at hand: its other directives have their notes */
};

struct lb_import_list {
	const struct lb_nginx_directive **items; /* to be freed */
	size_t n;
};

/** The directives of a block, those of its includes in their place. */
struct lb_import_list lb_import_children(const struct lb_nginx_directive *block);

/** Add a note about @p directive. */
void lb_import_note(struct lb_import_notes *notes, const struct lb_nginx_directive *directive,
	const char *format, ...) __attribute__((format(printf, 3, 4)));

/** Move all notes of @p from to the end of @p to. */
void lb_import_notes_move(struct lb_import_notes *to, struct lb_import_notes *from);

/** Whether a host name means the host itself (RFC 6761, 6.3). */
bool lb_import_is_localhost(const char *host);

/** Take back all notes from the @p n -th on. */
void lb_import_notes_cut(struct lb_import_notes *notes, size_t n);

/**
 * Split "HOST:PORT", "[HOST]:PORT", "HOST" and (for "listen", @p port_alone) "PORT" or "*:PORT".
 * @param port_default if there is none; 0: then it is wrong. @return false: wrong.
 */
bool lb_import_split(
	const char *text, unsigned port_default, bool port_alone, char **host, unsigned *port);

/**
 * A name for a service after @p text: as docs/config.md allows it, and unique. In new memory.
 * @param n_before services that have this name, with a number behind it, already.
 */
char *lb_import_name(const struct lb_import *import, const char *text, unsigned n_before);

/** Fill the service's name, backends and scheduler from what @p pass (a "proxy_pass") names. */
void lb_import_target(struct lb_import_scan *scan, struct lb_import_service *service,
	const struct lb_nginx_directive *pass, bool is_stream);

/** Say of each service that lb-control would refuse why: "unusable". */
void lb_import_find_faults(struct lb_import *import);

/** Backends from an upstream; only for the first service of it is there a note on each of its directives. */
void lb_import_upstream_backends(struct lb_import_scan *scan, struct lb_import_service *service,
	struct lb_import_upstream *upstream);

/** Notes on all that a server says beside what made the service; its "proxy_timeout". */
void lb_import_note_server(struct lb_import_service *service,
	const struct lb_nginx_directive *server, const struct lb_nginx_directive *pass);

/** A note on a directive that has no meaning for us, and on those in its block. */
void lb_import_note_rest(struct lb_import_notes *notes, const struct lb_nginx_directive *directive);

#endif
