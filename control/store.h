/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LB_CONTROL_STORE_H
#define LB_CONTROL_STORE_H

#include <stddef.h>

#include <jansson.h>

/*
 * A JSON document that survives a crash at any moment: written whole beside the old one, fsynced,
 * renamed over it, the directory fsynced. Its first line carries a checksum of the rest, so that a
 * file damaged on the disk is noticed even where it is still JSON.
 */

/**
 * Write @p document to @p path, mode 0600. On return the new content is durable.
 * @param why receives the reason of a failure; why_bytes.
 * @return 0; -ENOMEM; -errno of the file operation: the file is the old one, or (only the directory
 * could not be synced) the new one.
 */
int lb_store_save(const char *path, const json_t *document, char *why, size_t why_bytes);

/** The same for a document that is text already, of @p len bytes on one line. */
int lb_store_save_text(const char *path, const char *text, size_t len, char *why, size_t why_bytes);

/**
 * Read what lb_store_save() wrote.
 * @return 0 and @p document (new reference); -ENOENT no file; -EBADMSG it is damaged: it has been
 * renamed to "PATH.corrupt", @p why says how it is damaged; -ENOMEM, -errno of the file operation.
 */
int lb_store_load(const char *path, json_t **document, char *why, size_t why_bytes);

#endif
