/* SPDX-License-Identifier: BSD-3-Clause */
#include "lb/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "lb/log.h"

#define MAX_DIRS 4u
#define GROUP_NAME "fulcrum"
#define PATH_BYTES sizeof(((struct lb_shm_map *)0)->path)
/* The largest huge page worth using: a region takes some 20 MB, a 1 GB page would be wasted on it.
 */
#define MAX_PAGE_BYTES (32l << 20)
#define USUAL_PAGE_BYTES (2l << 20)

/* Where a region may be, best first. */
struct dirs {
	char path[MAX_DIRS][PATH_BYTES];
	unsigned n;
};

const char *lb_answer_name(unsigned answer)
{
	static const char *const names[LB_ANSWER_N] = {
		[LB_ANSWER_ECHO] = "echo",
		[LB_ANSWER_TOO_BIG] = "too_big",
		[LB_ANSWER_TTL_EXPIRED] = "ttl_expired",
		[LB_ANSWER_UNREACHABLE] = "unreachable",
		[LB_ANSWER_RESET] = "reset",
	};

	return answer < LB_ANSWER_N ? names[answer] : "?";
}

uint64_t lb_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t lb_realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool lb_instance_valid(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");

	return len >= 1 && len <= LB_INSTANCE_MAX && name[len] == '\0';
}

static void dirs_add(struct dirs *dirs, const char *path, size_t len)
{
	if (dirs->n == MAX_DIRS || len == 0 || len >= PATH_BYTES)
		return;
	memcpy(dirs->path[dirs->n], path, len);
	dirs->path[dirs->n++][len] = '\0';
}

/* Page size of the hugetlbfs mounted at @p path; 0 if it is none, or no use to us. */
static long hugetlbfs_page_bytes(const char *path)
{
	struct statfs fs;

	if (statfs(path, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC || fs.f_bsize > MAX_PAGE_BYTES)
		return 0;
	return fs.f_bsize;
}

static void dirs_add_hugetlbfs(struct dirs *dirs)
{
	struct dirs others = {.n = 0};
	char buf[1024];
	struct mntent mount;
	FILE *mounts = setmntent("/proc/self/mounts", "re");

	if (mounts == NULL)
		return;
	while (getmntent_r(mounts, &mount, buf, sizeof(buf)) != NULL) {
		long page_bytes = 0;

		if (strcmp(mount.mnt_type, "hugetlbfs") == 0)
			page_bytes = hugetlbfs_page_bytes(mount.mnt_dir);
		if (page_bytes == USUAL_PAGE_BYTES)
			dirs_add(dirs, mount.mnt_dir, strlen(mount.mnt_dir));
		else if (page_bytes > 0)
			dirs_add(&others, mount.mnt_dir, strlen(mount.mnt_dir));
	}
	endmntent(mounts);
	for (unsigned i = 0; i < others.n; i++)
		dirs_add(dirs, others.path[i], strlen(others.path[i]));
}

static void dirs_init(struct dirs *dirs)
{
	const char *override = getenv("FULCRUM_SHM_DIR");

	dirs->n = 0;
	if (override != NULL && override[0] != '\0') {
		for (const char *end; *override != '\0'; override = end + (*end != '\0')) {
			end = strchrnul(override, ':');
			dirs_add(dirs, override, (size_t)(end - override));
		}
		return;
	}
	dirs_add_hugetlbfs(dirs);
	if (dirs->n == MAX_DIRS)
		dirs->n--; // the fallback must always have a place
	dirs_add(dirs, "/dev/shm", strlen("/dev/shm"));
}

static int region_path(char path[PATH_BYTES], const char *dir, const char *prefix,
	const char *instance, const char *suffix)
{
	int len = snprintf(path, PATH_BYTES, "%s/%s%s%s", dir, prefix, instance, suffix);

	return len < (int)PATH_BYTES ? 0 : -ENAMETOOLONG;
}

/* Group that may attach beside the owner; -1 if the host has none. */
static gid_t shared_gid(void)
{
	struct group group, *found = NULL;
	char buf[4096];

	if (getgrnam_r(GROUP_NAME, &group, buf, sizeof(buf), &found) != 0 || found == NULL)
		return (gid_t)-1;
	return found->gr_gid;
}

/* /dev/shm is anybody's: a region that a stranger put there under our name is not ours to use. */
static bool is_trusted(const struct stat *st)
{
	gid_t gid = shared_gid();

	if (!S_ISREG(st->st_mode) || (st->st_mode & S_IWOTH) != 0)
		return false;
	return st->st_uid == 0 || st->st_uid == geteuid() ||
	       (gid != (gid_t)-1 && st->st_gid == gid);
}

static uint64_t round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

/* Check the header in @p fd against this program and the file's size. */
static int header_check(
	const struct lb_shm_header *header, const struct stat *st, char *why, size_t why_bytes)
{
	if (header->magic != LB_SHM_MAGIC)
		snprintf(why, why_bytes, "magic is %#" PRIx64 ", not %#" PRIx64, header->magic,
			LB_SHM_MAGIC);
	else if (header->abi != LB_SHM_ABI)
		snprintf(why, why_bytes, "the data plane's ABI is %u, this program's is %u",
			header->abi, LB_SHM_ABI);
	else if (header->n_workers < 1 || header->n_workers > LB_SHM_MAX_WORKERS)
		snprintf(why, why_bytes, "%u workers, not 1..%u", header->n_workers,
			LB_SHM_MAX_WORKERS);
	else if ((uint64_t)st->st_size < lb_shm_bytes(header->n_workers))
		snprintf(why, why_bytes, "file has %" PRIu64 " bytes, %u workers need %" PRIu64,
			(uint64_t)st->st_size, header->n_workers, lb_shm_bytes(header->n_workers));
	else
		return 0;
	return -EPROTO;
}

static int map_region(struct lb_shm_map *map, int fd, const struct stat *st, int flags)
{
	// hugetlbfs reports its page size here, and wants it when unmapping
	uint64_t page_bytes = st->st_blksize > 4096 ? (uint64_t)st->st_blksize : 4096;
	void *shm;

	map->size_bytes = round_up(lb_shm_bytes(map->n_workers), page_bytes);
	shm = mmap(NULL, map->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);
	if (shm == MAP_FAILED)
		return -errno;
	map->shm = shm;
	map->dev = st->st_dev;
	map->ino = st->st_ino;
	return 0;
}

/* Open, validate and map the region at @p path; @p started_ns receives its age. */
static int attach_path(
	struct lb_shm_map *map, const char *path, uint64_t *started_ns, char *why, size_t why_bytes)
{
	struct lb_shm_header header;
	struct stat st;
	int fd, rc;

	memset(map, 0, sizeof(*map));
	strcpy(map->path, path);
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		rc = -errno;
		snprintf(why, why_bytes, "%s", strerror(-rc));
		return rc;
	}
	if (fstat(fd, &st) < 0) {
		rc = -errno;
		snprintf(why, why_bytes, "%s", strerror(-rc));
		goto out;
	}
	if (!is_trusted(&st)) {
		rc = -EPERM;
		snprintf(why, why_bytes,
			"not a file of root, of this user or of group %s, "
			"or writable by everyone",
			GROUP_NAME);
		goto out;
	}
	// a copy is checked, not the mapping, where it could still change
	if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header)) {
		rc = -EPROTO;
		snprintf(why, why_bytes, "file is shorter than a header");
		goto out;
	}
	rc = header_check(&header, &st, why, why_bytes);
	if (rc < 0)
		goto out;
	map->n_workers = header.n_workers;
	*started_ns = header.started_ns;
	rc = map_region(map, fd, &st, 0);
	if (rc < 0)
		snprintf(why, why_bytes, "mmap: %s", strerror(-rc));
out:
	close(fd);
	return rc;
}

int lb_shm_attach(struct lb_shm_map *map, const char *instance, char *why, size_t why_bytes)
{
	uint64_t started_ns = 0, best_ns = 0;
	struct lb_shm_map found;
	char path[PATH_BYTES], reason[160] = "no such region", one[160];
	int rc, result = -ENOENT;
	struct dirs dirs;

	memset(map, 0, sizeof(*map));
	if (!lb_instance_valid(instance)) {
		if (why != NULL)
			snprintf(why, why_bytes, "not an instance name: 1..%d of a-z 0-9 _ -",
				LB_INSTANCE_MAX);
		return -EINVAL;
	}
	dirs_init(&dirs);
	for (unsigned i = 0; i < dirs.n; i++) {
		rc = region_path(path, dirs.path[i], "lb.", instance, "");
		snprintf(one, sizeof(one), "%s", strerror(-rc));
		if (rc == 0)
			rc = attach_path(&found, path, &started_ns, one, sizeof(one));
		if (rc == 0 && (result != 0 || started_ns > best_ns)) {
			lb_shm_detach(map, false);
			*map = found;
			best_ns = started_ns;
			result = 0;
		} else if (rc == 0) {
			lb_shm_detach(&found, false);
		} else if (rc != -ENOENT && result == -ENOENT) {
			result = rc;
			snprintf(reason, sizeof(reason), "%s", one);
		}
	}
	if (result != 0 && why != NULL)
		snprintf(why, why_bytes, "%s", reason);
	return result;
}

static bool is_mapped_file(const struct lb_shm_map *map, const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && st.st_dev == map->dev && st.st_ino == map->ino;
}

bool lb_shm_replaced(const struct lb_shm_map *map)
{
	const char *name = strrchr(map->path, '/');
	char path[PATH_BYTES];
	struct stat st;
	struct dirs dirs;

	if (map->shm == NULL || name == NULL)
		return true;
	if (is_mapped_file(map, map->path))
		return false;
	// ours is gone; with nothing in its place the data plane has stopped, and there is no other
	dirs_init(&dirs);
	for (unsigned i = 0; i < dirs.n; i++)
		if (region_path(path, dirs.path[i], "", name + 1, "") == 0 && lstat(path, &st) == 0)
			return true;
	return false;
}

void lb_shm_detach(struct lb_shm_map *map, bool unlink_file)
{
	if (map->shm == NULL)
		return;
	// not a successor's
	if (unlink_file && is_mapped_file(map, map->path))
		unlink(map->path);
	munmap(map->shm, map->size_bytes);
	memset(map, 0, sizeof(*map));
}

/* Make, size and map the file at @p path, every page of it allocated: a hole would be a SIGBUS
 * later. */
static int create_path(struct lb_shm_map *map, const char *path)
{
	gid_t gid = shared_gid();
	struct stat st;
	uint64_t bytes;
	int fd, rc;

	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		rc = -errno;
		goto fail;
	}
	bytes = round_up(lb_shm_bytes(map->n_workers),
		st.st_blksize > 4096 ? (uint64_t)st.st_blksize : 4096);
	if (ftruncate(fd, (off_t)bytes) < 0) {
		rc = -errno;
		goto fail;
	}
	do
		rc = -posix_fallocate(fd, 0, (off_t)bytes);
	while (rc == -EINTR);
	if (rc < 0)
		goto fail;
	// not a member of the group, not root: the owner's own group it is
	if (gid != (gid_t)-1 && fchown(fd, (uid_t)-1, gid) < 0)
		lb_log(LB_LOG_WARN, "shm", "%s: group %s: %s", path, GROUP_NAME, strerror(errno));
	if (fchmod(fd, 0660) < 0) {
		rc = -errno;
		goto fail;
	}
	rc = map_region(map, fd, &st, MAP_POPULATE);
	if (rc < 0)
		goto fail;
	close(fd);
	return 0;
fail:
	unlink(path);
	close(fd);
	return rc;
}

uint64_t lb_shm_mirror_checksum(const struct lb_shm_mirror *mirror)
{
	return lb_hash_bytes(mirror, offsetof(struct lb_shm_mirror, checksum), LB_SHM_ABI);
}

/* Copy what is intact: the old data plane or its control plane may have died in the middle of a
 * write. */
static void carry_mirror_over(struct lb_shm *shm, const char *instance)
{
	struct lb_shm_map old;
	unsigned n = 0;

	if (lb_shm_attach(&old, instance, NULL, 0) < 0)
		return;
	for (unsigned i = 0; i <= LB_MAX_BACKENDS; i++) {
		struct lb_shm_mirror mirror = old.shm->mirror[i];

		if (mirror.key == 0 || mirror.checksum != lb_shm_mirror_checksum(&mirror))
			continue;
		shm->mirror[i] = mirror;
		n++;
	}
	lb_log(LB_LOG_INFO, "shm", "carried the health of %u backends over from %s", n, old.path);
	lb_shm_detach(&old, false);
}

static void header_init(const struct lb_shm_map *map)
{
	struct lb_shm_header *header = &map->shm->header;

	header->abi = LB_SHM_ABI;
	header->n_workers = map->n_workers;
	header->size_bytes = map->size_bytes;
	if (getrandom(&header->boot_id, sizeof(header->boot_id), 0) < 0)
		header->boot_id = lb_now_ns();
	header->started_ns = lb_realtime_ns();
	snprintf(header->version, sizeof(header->version), "%s", LB_VERSION);
	snprintf(header->hash_impl, sizeof(header->hash_impl), "%s", lb_hash_impl());
	lb_shm_heartbeat(map->shm, LB_SIDE_DATA);
	__atomic_store_n(&header->magic, LB_SHM_MAGIC, __ATOMIC_RELEASE);
}

/* Remove regions of this name in other directories: an attacher must not find two. */
static void unlink_others(
	const struct lb_shm_map *map, const struct dirs *dirs, const char *instance)
{
	char path[PATH_BYTES];

	for (unsigned i = 0; i < dirs->n; i++)
		if (region_path(path, dirs->path[i], "lb.", instance, "") == 0 &&
			!is_mapped_file(map, path) && unlink(path) < 0 && errno != ENOENT)
			lb_log(LB_LOG_WARN, "shm", "%s: cannot remove: %s", path, strerror(errno));
}

static int create_in(struct lb_shm_map *map, const char *dir, const char *instance)
{
	char temp[PATH_BYTES];
	int rc;

	rc = region_path(map->path, dir, "lb.", instance, "");
	if (rc == 0)
		rc = region_path(temp, dir, ".lb.", instance, ".new");
	if (rc == 0)
		rc = create_path(map, temp);
	if (rc < 0)
		return rc;
	carry_mirror_over(map->shm, instance);
	header_init(map);
	// only a whole region ever has the name; a symlink under it is replaced, not followed
	if (rename(temp, map->path) < 0) {
		rc = -errno;
		unlink(temp);
		munmap(map->shm, map->size_bytes);
	}
	return rc;
}

int lb_shm_create(struct lb_shm_map *map, const char *instance, unsigned n_workers)
{
	struct dirs dirs;
	int rc = -ENOENT;

	memset(map, 0, sizeof(*map));
	if (!lb_instance_valid(instance) || n_workers < 1 || n_workers > LB_SHM_MAX_WORKERS)
		return -EINVAL;
	dirs_init(&dirs);
	for (unsigned i = 0; i < dirs.n; i++) {
		map->n_workers = n_workers;
		rc = create_in(map, dirs.path[i], instance);
		if (rc == 0) {
			unlink_others(map, &dirs, instance);
			return 0;
		}
		lb_log(LB_LOG_WARN, "shm", "no region in %s: %s%s", dirs.path[i], strerror(-rc),
			rc == -ENOSPC || rc == -ENOMEM ? " (free huge pages missing?)" : "");
		memset(map, 0, sizeof(*map));
	}
	return rc;
}

void lb_shm_heartbeat(struct lb_shm *shm, enum lb_side side)
{
	__atomic_store_n(&shm->header.side[side].pid, (uint32_t)getpid(), __ATOMIC_RELAXED);
	__atomic_store_n(&shm->header.side[side].heartbeat_ns, lb_now_ns(), __ATOMIC_RELAXED);
}

uint64_t lb_shm_heartbeat_age_ns(const struct lb_shm *shm, enum lb_side side)
{
	uint64_t stamp_ns = __atomic_load_n(&shm->header.side[side].heartbeat_ns, __ATOMIC_RELAXED);
	uint64_t now_ns = lb_now_ns();

	if (stamp_ns == 0)
		return UINT64_MAX;
	return now_ns > stamp_ns ? now_ns - stamp_ns : 0;
}

/* Whether process @p pid is there, and no zombie. */
static bool is_alive(pid_t pid)
{
	struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int rc;

	if (ended.fd < 0 && errno == ESRCH)
		return false;
	if (ended.fd < 0) // no descriptor left, or an old kernel: a zombie passes for alive
		return kill(pid, 0) == 0 || errno == EPERM;
	do
		rc = poll(&ended, 1, 0);
	while (rc < 0 && errno == EINTR);
	close(ended.fd);
	return rc <= 0;
}

uint32_t lb_shm_owner(const struct lb_shm *shm)
{
	uint32_t pid = __atomic_load_n(&shm->header.side[LB_SIDE_DATA].pid, __ATOMIC_RELAXED);

	if (lb_shm_heartbeat_age_ns(shm, LB_SIDE_DATA) >= LB_SHM_DEAD_NS || pid == 0 ||
		pid > INT32_MAX)
		return 0;
	return is_alive((pid_t)pid) ? pid : 0;
}

/* The futex is shared between processes: no FUTEX_PRIVATE_FLAG. */
static void futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	(void)syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

uint32_t lb_shm_wait_seen(const struct lb_shm *shm)
{
	// pairs with the release in lb_shm_wake(): whoever sees the new value sees the commands
	// before it
	return __atomic_load_n(&shm->header.command_futex, __ATOMIC_ACQUIRE);
}

void lb_shm_wake(struct lb_shm *shm)
{
	__atomic_fetch_add(&shm->header.command_futex, 1, __ATOMIC_RELEASE);
	futex(&shm->header.command_futex, FUTEX_WAKE, 1, NULL);
}

void lb_shm_wait(struct lb_shm *shm, uint32_t seen, unsigned timeout_ms)
{
	struct timespec timeout = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = (long)(timeout_ms % 1000) * 1000000,
	};

	// the kernel compares again under its lock: a wake between the caller's look and here is
	// not lost
	futex(&shm->header.command_futex, FUTEX_WAIT, seen, &timeout);
}
