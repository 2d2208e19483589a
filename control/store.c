/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lb/hash.h"

#define HEADER_FORMAT "fulcrum-state 1 %016" PRIx64 "\n"
#define HEADER_BYTES 33u /* of the line above: 16 + 16 + newline */
#define MAX_BYTES (512ul << 20)
#define HASH_SEED 1u

static int failed(int error, const char *what, const char *path, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "%s %s: %s", what, path, strerror(error));
	return -error;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int sync_directory_of(const char *path)
{
	char copy[PATH_MAX];
	int fd, rc = 0;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static int write_file(const char *path, const char *text, size_t len)
{
	char header[HEADER_BYTES + 1];
	int fd, rc;

	snprintf(header, sizeof(header), HEADER_FORMAT, lb_hash_bytes(text, len, HASH_SEED));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, header, HEADER_BYTES);
	if (rc == 0)
		rc = write_all(fd, text, len);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

int lb_store_save_text(const char *path, const char *text, size_t len, char *why, size_t why_bytes)
{
	char temp[PATH_MAX];
	int rc;

	if (snprintf(temp, sizeof(temp), "%s.new", path) >= (int)sizeof(temp))
		return failed(ENAMETOOLONG, "cannot write", path, why, why_bytes);
	rc = write_file(temp, text, len);
	if (rc == 0 && rename(temp, path) < 0)
		rc = -errno;
	if (rc == 0)
		rc = sync_directory_of(path);
	else
		unlink(temp);
	return rc < 0 ? failed(-rc, "cannot write", path, why, why_bytes) : 0;
}

int lb_store_save(const char *path, const json_t *document, char *why, size_t why_bytes)
{
	char *text = json_dumps(document, JSON_COMPACT | JSON_PRESERVE_ORDER);
	int rc;

	if (text == NULL)
		return failed(ENOMEM, "cannot write", path, why, why_bytes);
	rc = lb_store_save_text(path, text, strlen(text), why, why_bytes);
	free(text);
	return rc;
}

static int read_file(const char *path, char **text, size_t *len)
{
	struct stat st;
	size_t n = 0;
	int fd, rc = 0;

	*text = NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > MAX_BYTES)
		rc = -EBADMSG;
	else if ((*text = malloc((size_t)st.st_size + 1)) == NULL)
		rc = -ENOMEM;
	while (rc == 0 && n < (size_t)st.st_size) {
		ssize_t got = read(fd, *text + n, (size_t)st.st_size - n);

		if (got == 0)
			break;
		if (got < 0 && errno != EINTR)
			rc = -errno;
		n += got > 0 ? (size_t)got : 0;
	}
	close(fd);
	if (rc < 0) {
		free(*text);
		*text = NULL;
		return rc;
	}
	*len = n;
	return 0;
}

/* NULL and @p why if the content is not what we wrote. */
static json_t *check_and_parse(const char *text, size_t len, char *why, size_t why_bytes)
{
	char header[HEADER_BYTES + 1];
	json_error_t error;
	json_t *document;

	if (len < HEADER_BYTES) {
		snprintf(why, why_bytes, "it is truncated (%zu bytes)", len);
		return NULL;
	}
	snprintf(header, sizeof(header), HEADER_FORMAT,
		lb_hash_bytes(text + HEADER_BYTES, len - HEADER_BYTES, HASH_SEED));
	if (memcmp(header, text, HEADER_BYTES) != 0) {
		snprintf(why, why_bytes, "its checksum or version does not match");
		return NULL;
	}
	document =
		json_loadb(text + HEADER_BYTES, len - HEADER_BYTES, JSON_REJECT_DUPLICATES, &error);
	if (document == NULL)
		snprintf(why, why_bytes, "line %d: %s", error.line, error.text);
	return document;
}

int lb_store_load(const char *path, json_t **document, char *why, size_t why_bytes)
{
	char aside[PATH_MAX];
	size_t len = 0;
	char *text;
	int rc;

	rc = read_file(path, &text, &len);
	if (rc == 0) {
		*document = check_and_parse(text, len, why, why_bytes);
		free(text);
		if (*document != NULL)
			return 0;
		rc = -EBADMSG;
	} else if (rc != -EBADMSG) {
		return failed(-rc, "cannot read", path, why, why_bytes);
	} else {
		snprintf(why, why_bytes, "it is no regular file, or too large");
	}
	if (snprintf(aside, sizeof(aside), "%s.corrupt", path) < (int)sizeof(aside))
		(void)rename(path, aside);
	return rc;
}
