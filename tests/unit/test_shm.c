/* SPDX-License-Identifier: BSD-3-Clause */
/* The shared region: made whole, attached only if it fits, carried over, replaced. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lb/log.h"
#include "lb/shm.h"

static char top[32], dir_a[40], dir_b[40], region_a[64], region_b[64];
static struct lb_shm_map data, control;
static char why[200];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

/* Two directories, a before b, in which the region "t" may be. */
static int setup(void **state)
{
	char both[100];

	(void)state;
	strcpy(top,
		access("/dev/shm", W_OK) == 0 ? "/dev/shm/lb-test-XXXXXX" : "/tmp/lb-test-XXXXXX");
	if (mkdtemp(top) == NULL)
		return -1;
	snprintf(dir_a, sizeof(dir_a), "%s/a", top);
	snprintf(dir_b, sizeof(dir_b), "%s/b", top);
	snprintf(region_a, sizeof(region_a), "%s/lb.t", dir_a);
	snprintf(region_b, sizeof(region_b), "%s/lb.t", dir_b);
	snprintf(both, sizeof(both), "%s:%s", dir_a, dir_b);
	setenv("FULCRUM_SHM_DIR", both, 1);
	memset(&data, 0, sizeof(data));
	memset(&control, 0, sizeof(control));
	return mkdir(dir_a, 0700) | mkdir(dir_b, 0700);
}

static int teardown(void **state)
{
	(void)state;
	lb_shm_detach(&data, true); // also from the usual directories, if a test failed there
	lb_shm_detach(&control, false);
	return nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void create(unsigned n_workers)
{
	assert_int_equal(0, lb_shm_create(&data, "t", n_workers));
}

static void assert_attach(int rc, const char *reason)
{
	why[0] = '\0';
	assert_int_equal(rc, lb_shm_attach(&control, "t", why, sizeof(why)));
	if (reason != NULL && strstr(why, reason) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", why, reason);
	if (rc < 0) {
		assert_true(strlen(why) > 0);
		assert_null(control.shm);
		assert_int_equal(rc, lb_shm_attach(&control, "t", NULL, 0));
	}
}

static void instance_names_are_checked(void **state)
{
	static const char *const good[] = {
		"default", "a", "edge-1", "a_b", "0", "0123456789abcdef0123456789abcdef"};
	static const char *const bad[] = {"", ".", "..", "a/b", "../x", "A", "a b", "a.b", "ä",
		"a\n", "0123456789abcdef0123456789abcdef0"};

	(void)state;
	for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(lb_instance_valid(good[i]));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_false(lb_instance_valid(bad[i]));
		assert_int_equal(-EINVAL, lb_shm_create(&data, bad[i], 1));
		assert_int_equal(-EINVAL, lb_shm_attach(&control, bad[i], why, sizeof(why)));
		assert_int_equal(-EINVAL, lb_shm_attach(&control, bad[i], NULL, 0));
		assert_null(data.shm);
	}
}

static void worker_counts_are_checked(void **state)
{
	(void)state;
	assert_int_equal(-EINVAL, lb_shm_create(&data, "t", 0));
	assert_int_equal(-EINVAL, lb_shm_create(&data, "t", LB_SHM_MAX_WORKERS + 1));
	assert_int_equal(-EINVAL, lb_shm_create(&data, "t", UINT32_MAX));
	assert_attach(-ENOENT, "no such region");
}

static void directories_are_separated_by_colons(void **state)
{
	char dirs[200];

	(void)state;
	snprintf(dirs, sizeof(dirs), "::%s:", dir_b);
	setenv("FULCRUM_SHM_DIR", dirs, 1);
	create(1);
	assert_string_equal(region_b, data.path);
	lb_shm_detach(&data, true);
	// no more than four
	snprintf(dirs, sizeof(dirs), "/n1:/n2:/n3:/n4:%s", dir_b);
	setenv("FULCRUM_SHM_DIR", dirs, 1);
	assert_int_equal(-ENOENT, lb_shm_create(&data, "t", 1));
	// a name that does not fit is no directory
	memset(dirs, 'x', sizeof(dirs) - 1);
	dirs[0] = '/';
	dirs[sizeof(dirs) - 1] = '\0';
	setenv("FULCRUM_SHM_DIR", dirs, 1);
	assert_int_equal(-ENOENT, lb_shm_create(&data, "t", 1));
	dirs[125] = '\0'; // fits, but not with the file's name
	setenv("FULCRUM_SHM_DIR", dirs, 1);
	assert_int_equal(-ENAMETOOLONG, lb_shm_create(&data, "t", 1));
	assert_attach(-ENAMETOOLONG, NULL);
}

static void both_sides_see_the_same_memory(void **state)
{
	struct lb_msg msg = {.seq = 7, .op = LB_OP_PING}, got;
	struct lb_ring producer, consumer;

	(void)state;
	create(3);
	assert_attach(0, NULL);
	assert_string_equal(region_a, data.path);
	assert_string_equal(region_a, control.path);
	assert_int_equal(3, control.n_workers);
	assert_true(control.size_bytes >= lb_shm_bytes(3));
	assert_ptr_not_equal(data.shm, control.shm);

	lb_ring_attach_producer(&producer, &control.shm->command);
	lb_ring_attach_consumer(&consumer, &data.shm->command);
	assert_true(lb_ring_push(&producer, &msg));
	assert_true(lb_ring_pop(&consumer, &got));
	assert_memory_equal(&msg, &got, sizeof(msg));
	data.shm->workers[2].backends[LB_MAX_BACKENDS].resets = 5;
	assert_int_equal(5, control.shm->workers[2].backends[LB_MAX_BACKENDS].resets);
}

static void header_says_who_made_it(void **state)
{
	const struct lb_shm_header *header;
	uint64_t boot_id;

	(void)state;
	create(2);
	header = &data.shm->header;
	assert_int_equal(LB_SHM_MAGIC, header->magic);
	assert_int_equal(LB_SHM_ABI, header->abi);
	assert_int_equal(2, header->n_workers);
	assert_int_equal(data.size_bytes, header->size_bytes);
	assert_true(header->started_ns <= lb_realtime_ns());
	assert_string_equal(LB_VERSION, header->version);
	assert_string_equal(lb_hash_impl(), header->hash_impl);
	assert_int_equal(getpid(), header->side[LB_SIDE_DATA].pid);
	boot_id = header->boot_id;
	lb_shm_detach(&data, true);
	create(2);
	assert_int_not_equal(boot_id, data.shm->header.boot_id);
}

static void file_is_for_owner_and_group_only(void **state)
{
	mode_t old = umask(0177);
	struct stat st;

	(void)state;
	create(1);
	umask(old);
	assert_int_equal(0, stat(region_a, &st));
	assert_int_equal(S_IFREG | 0660, st.st_mode);
	assert_true((uint64_t)st.st_size >= data.size_bytes);
	assert_true((uint64_t)st.st_blocks * 512 >= data.size_bytes); // no holes: no SIGBUS
}

static void absent_region_is_no_such_file(void **state)
{
	(void)state;
	assert_attach(-ENOENT, "no such region");
}

/* Write @p n bytes at @p offset of the region's header. */
static void scribble(size_t offset, const void *bytes, size_t n)
{
	int fd = open(region_a, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(n, pwrite(fd, bytes, n, (off_t)offset));
	close(fd);
}

static void header_that_does_not_fit_is_refused(void **state)
{
	char text[60];

	static const uint32_t n_workers[] = {0, LB_SHM_MAX_WORKERS + 1, 1u << 31, UINT32_MAX};
	const uint64_t magic = LB_SHM_MAGIC ^ 1;
	const uint32_t abi = LB_SHM_ABI + 1, one = 1, two = 2;

	(void)state;
	create(1);
	for (unsigned i = 0; i < 4; i++) {
		scribble(offsetof(struct lb_shm_header, n_workers), &n_workers[i], 4);
		assert_attach(-EPROTO, "workers, not 1..64");
	}
	scribble(offsetof(struct lb_shm_header, n_workers), &two, 4);
	assert_attach(-EPROTO, "2 workers need");
	scribble(offsetof(struct lb_shm_header, n_workers), &one, 4);
	assert_attach(0, NULL);
	lb_shm_detach(&control, false);
	scribble(offsetof(struct lb_shm_header, abi), &abi, 4);
	snprintf(text, sizeof(text), "ABI is %u, this program's is %u", LB_SHM_ABI + 1, LB_SHM_ABI);
	assert_attach(-EPROTO, text);
	scribble(offsetof(struct lb_shm_header, magic), &magic, 8);
	assert_attach(-EPROTO, "magic");
}

static void short_file_is_refused(void **state)
{
	(void)state;
	create(1);
	lb_shm_detach(&data, false);
	assert_int_equal(0, truncate(region_a, (off_t)lb_shm_bytes(1) - 1));
	assert_attach(-EPROTO, "1 workers need");
	assert_int_equal(0, truncate(region_a, sizeof(struct lb_shm_header)));
	assert_attach(-EPROTO, "1 workers need");
	assert_int_equal(0, truncate(region_a, sizeof(struct lb_shm_header) - 1));
	assert_attach(-EPROTO, "shorter than a header");
	assert_int_equal(0, truncate(region_a, 0));
	assert_attach(-EPROTO, "shorter than a header");
}

static void header_is_not_trusted_after_the_check(void **state)
{
	(void)state;
	create(2);
	assert_attach(0, NULL);
	memset(&data.shm->header, 0xff, sizeof(data.shm->header));
	assert_int_equal(2, control.n_workers);
	assert_true(control.size_bytes >= lb_shm_bytes(2));
	assert_int_equal(0, control.shm->workers[1].rx_pkts); // still mapped
	assert_false(lb_shm_replaced(&control));
	lb_shm_detach(&control, false); // by the checked size
	assert_null(control.shm);
}

static void symlink_is_not_followed(void **state)
{
	struct stat st;

	(void)state;
	create(1);
	assert_int_equal(0, rename(region_a, region_b));
	assert_int_equal(0, symlink(region_b, region_a));
	setenv("FULCRUM_SHM_DIR", dir_a, 1);
	assert_attach(-ELOOP, NULL);

	// a new region takes the name; what the link points at stays as it was
	lb_shm_detach(&data, false);
	create(2);
	assert_int_equal(0, lstat(region_a, &st));
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(0, stat(region_b, &st));
	assert_attach(0, NULL);
	assert_int_equal(2, control.n_workers);
}

static void planted_temporary_is_not_followed(void **state)
{
	char temporary[64], victim[64];
	struct stat st;
	int fd;

	(void)state;
	snprintf(victim, sizeof(victim), "%s/victim", top);
	snprintf(temporary, sizeof(temporary), "%s/.lb.t.new", dir_a);
	fd = open(victim, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(0, symlink(victim, temporary));
	create(1);
	assert_int_equal(0, stat(victim, &st));
	assert_int_equal(0, st.st_size);
	assert_int_equal(-1, lstat(temporary, &st));
}

static void what_is_not_a_file_of_ours_is_refused(void **state)
{
	(void)state;
	assert_int_equal(0, mkfifo(region_a, 0600));
	assert_attach(-EPERM, "not a file of");
	unlink(region_a);
	assert_int_equal(0, mkdir(region_a, 0700));
	assert_attach(-EISDIR, NULL);
	rmdir(region_a);
	create(1);
	assert_int_equal(0, chmod(region_a, 0666));
	assert_attach(-EPERM, "writable by everyone");
	assert_int_equal(0, chmod(region_a, 0660));
	if (geteuid() == 0) {
		// root attaches what is root's, not what some user put there
		assert_int_equal(0, chown(region_a, 12345, 12345));
		assert_attach(-EPERM, "not a file of root");
		// that user may attach it himself
		assert_int_equal(0, chmod(top, 0755) | chmod(dir_a, 0755) | chmod(dir_b, 0755));
		assert_int_equal(0, seteuid(12345));
		assert_attach(0, NULL);
		assert_int_equal(0, seteuid(0));
	}
}

static void new_region_replaces_the_old(void **state)
{
	struct lb_shm_map second;

	(void)state;
	create(1);
	assert_attach(0, NULL);
	assert_false(lb_shm_replaced(&control));
	data.shm->workers[0].rx_pkts = 9;

	assert_int_equal(0, lb_shm_create(&second, "t", 1));
	assert_true(lb_shm_replaced(&control));
	assert_int_equal(
		9, control.shm->workers[0].rx_pkts); // the old one is still there for who has it
	lb_shm_detach(&control, false);
	assert_attach(0, NULL);
	assert_int_equal(second.ino, control.ino);
	assert_int_equal(0, control.shm->workers[0].rx_pkts);
	assert_false(lb_shm_replaced(&control));

	// the data plane before, when it goes, does not take its successor's file along
	lb_shm_detach(&data, true);
	assert_false(lb_shm_replaced(&control));
	assert_int_equal(0, access(region_a, F_OK));
	lb_shm_detach(&second, true);
	assert_int_equal(-1, access(region_a, F_OK));
	// nothing is there now, hence nothing else
	assert_false(lb_shm_replaced(&control));
	lb_shm_detach(&control, false);
	assert_true(lb_shm_replaced(&control)); // not attached at all
}

static void region_that_moved_to_another_directory_is_found(void **state)
{
	char both[100];

	(void)state;
	snprintf(both, sizeof(both), "%s:%s", dir_a, dir_b);
	create(1);
	assert_attach(0, NULL);
	lb_shm_detach(&data, false);
	setenv("FULCRUM_SHM_DIR", dir_b, 1);
	create(1);
	setenv("FULCRUM_SHM_DIR", both, 1);
	assert_false(lb_shm_replaced(&control)); // the old one still has its name
	unlink(region_a);
	assert_true(lb_shm_replaced(&control));
	lb_shm_detach(&control, false);
	assert_attach(0, NULL);
	assert_string_equal(region_b, control.path);

	// made in a again: the one in b is removed
	lb_shm_detach(&data, false);
	create(1);
	assert_string_equal(region_a, data.path);
	assert_int_equal(-1, access(region_b, F_OK));
	assert_true(lb_shm_replaced(&control));
}

static void newest_region_is_attached(void **state)
{
	char both[100];

	(void)state;
	snprintf(both, sizeof(both), "%s:%s", dir_a, dir_b);
	for (unsigned newer_in_b = 0; newer_in_b < 2; newer_in_b++) {
		setenv("FULCRUM_SHM_DIR", newer_in_b ? dir_a : dir_b, 1);
		create(1);
		lb_shm_detach(&data, false);
		setenv("FULCRUM_SHM_DIR", newer_in_b ? dir_b : dir_a, 1);
		create(2);
		lb_shm_detach(&data, false);
		setenv("FULCRUM_SHM_DIR", both, 1);
		assert_attach(0, NULL);
		assert_int_equal(2, control.n_workers);
		assert_string_equal(newer_in_b ? region_b : region_a, control.path);
		lb_shm_detach(&control, false);
	}
	// a broken one does not hide a good one
	scribble(0, "broken", 6);
	assert_attach(0, NULL);
	assert_string_equal(region_b, control.path);
}

static void directory_without_room_is_passed_over(void **state)
{
	char dirs[100];

	(void)state;
	snprintf(dirs, sizeof(dirs), "%s/nowhere:%s", top, dir_b);
	setenv("FULCRUM_SHM_DIR", dirs, 1);
	create(1);
	assert_string_equal(region_b, data.path);
	assert_attach(0, NULL);
}

static void name_that_is_a_directory_is_passed_over(void **state)
{
	char temporary[64];

	(void)state;
	assert_int_equal(0, mkdir(region_a, 0700));
	create(1);
	assert_string_equal(region_b, data.path);
	snprintf(temporary, sizeof(temporary), "%s/.lb.t.new", dir_a);
	assert_int_equal(-1, access(temporary, F_OK));
	assert_attach(0, NULL);
}

static void failed_creation_leaves_all_as_it_was(void **state)
{
	struct rlimit old, low;
	struct lb_shm_map second;
	char temporary[64];

	(void)state;
	create(1);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &old));
	low = old;
	low.rlim_cur = 1 << 20;
	assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &low));
	assert_int_equal(-EFBIG, lb_shm_create(&second, "t", 1));
	assert_int_equal(-EFBIG, lb_shm_create(&second, "t", LB_SHM_MAX_WORKERS));
	assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &old));
	assert_null(second.shm);
	snprintf(temporary, sizeof(temporary), "%s/.lb.t.new", dir_a);
	assert_int_equal(-1, access(temporary, F_OK));
	assert_attach(0, NULL);
	assert_int_equal(data.ino, control.ino);
}

static struct lb_shm_mirror mirror(uint64_t key_value, uint8_t health)
{
	struct lb_shm_mirror entry = {.key = key_value, .since_s = 1700000000, .health = health};

	entry.checksum = lb_shm_mirror_checksum(&entry);
	return entry;
}

static void intact_mirror_entries_are_carried_over(void **state)
{
	struct lb_shm_mirror first = mirror(11, 1), last = mirror(12, 2), torn = mirror(13, 3);
	static const struct lb_shm_mirror zero;

	(void)state;
	create(1);
	torn.health = 9;
	data.shm->mirror[0] = first;
	data.shm->mirror[5] = torn;
	data.shm->mirror[LB_MAX_BACKENDS] = last;
	data.shm->header.n_commands = 77;
	data.shm->command.tail = 3;
	lb_shm_detach(&data, false);

	create(4); // also with other workers
	assert_memory_equal(&first, &data.shm->mirror[0], sizeof(first));
	assert_memory_equal(&last, &data.shm->mirror[LB_MAX_BACKENDS], sizeof(last));
	assert_memory_equal(&zero, &data.shm->mirror[5], sizeof(zero));
	assert_memory_equal(&zero, &data.shm->mirror[1], sizeof(zero));
	assert_int_equal(0, data.shm->header.n_commands);
	assert_int_equal(0, data.shm->command.tail);
}

static void mirror_of_another_abi_is_not(void **state)
{
	const uint32_t abi = LB_SHM_ABI + 1;

	(void)state;
	create(1);
	data.shm->mirror[0] = mirror(11, 1);
	scribble(offsetof(struct lb_shm_header, abi), &abi, 4);
	lb_shm_detach(&data, false);
	create(1);
	assert_int_equal(0, data.shm->mirror[0].key);
	assert_attach(0, NULL);
}

static void every_bit_of_a_mirror_entry_is_checked(void **state)
{
	struct lb_shm_mirror entry = mirror(UINT64_C(0x123456789abcdef0), 2);

	(void)state;
	assert_int_equal(entry.checksum, lb_shm_mirror_checksum(&entry));
	for (size_t bit = 0; bit < offsetof(struct lb_shm_mirror, checksum) * 8; bit++) {
		((uint8_t *)&entry)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(entry.checksum, lb_shm_mirror_checksum(&entry));
		((uint8_t *)&entry)[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void usual_directories_work(void **state)
{
	char name[LB_INSTANCE_MAX + 1];
	struct stat st;

	(void)state;
	// hugetlbfs where there is one with room, else /dev/shm
	unsetenv("FULCRUM_SHM_DIR");
	snprintf(name, sizeof(name), "test-%d", getpid());
	if (lb_shm_create(&data, name, 1) < 0)
		skip(); // a sandbox with neither
	assert_int_equal(0, stat(data.path, &st));
	assert_int_equal(st.st_size, data.size_bytes);
	assert_int_equal(0, lb_shm_attach(&control, name, why, sizeof(why)));
	assert_string_equal(data.path, control.path);
	memset(control.shm->workers, 1, sizeof(*control.shm->workers));
	assert_false(lb_shm_replaced(&control));
	lb_shm_detach(&data, true);
	assert_int_equal(-1, access(control.path, F_OK));
}

/* A mounted hugetlbfs of 2 MB pages with room for a region to spare; NULL if there is none. */
static const char *roomy_hugetlbfs(void)
{
	static char dir[256];
	unsigned n_free = 0, page_kb = 0;
	FILE *mounts = fopen("/proc/mounts", "r"), *memory = fopen("/proc/meminfo", "r");
	char line[512];
	bool found = false;

	assert_true(mounts && memory);
	while (fgets(line, sizeof(line), memory) != NULL) {
		sscanf(line, "HugePages_Free: %u", &n_free);
		sscanf(line, "Hugepagesize: %u kB", &page_kb);
	}
	while (!found && fgets(line, sizeof(line), mounts) != NULL)
		found = sscanf(line, "%*s %255s hugetlbfs", dir) == 1 &&
			strstr(line, " hugetlbfs ") != NULL && strstr(line, "pagesize=2M") != NULL;
	fclose(mounts);
	fclose(memory);
	return found && page_kb == 2048 && n_free >= 100 && access(dir, W_OK) == 0 ? dir : NULL;
}

static void huge_pages_are_preferred(void **state)
{
	const char *dir = roomy_hugetlbfs();
	char path[300], name[LB_INSTANCE_MAX + 1];

	(void)state;
	if (dir == NULL)
		skip(); // no such mount here
	unsetenv("FULCRUM_SHM_DIR");
	snprintf(name, sizeof(name), "test-huge-%d", getpid());
	snprintf(path, sizeof(path), "%s/lb.%s", dir, name);
	assert_int_equal(0, lb_shm_create(&data, name, 1));
	assert_string_equal(path, data.path);
	assert_int_equal(0, data.size_bytes % (2 << 20));
	assert_int_equal(0, lb_shm_attach(&control, name, why, sizeof(why)));
	assert_string_equal(path, control.path);
	lb_shm_detach(&data, true);
	lb_shm_detach(&control, false);
}

/* Open files and mappings of this process whose name ends like a region's. */
static unsigned n_held(void)
{
	char line[512], path[64], target[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		n += strstr(line, "lb.t") != NULL;
	fclose(maps);
	for (int fd = 0; fd < 256; fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		n += strstr(target, "lb.t") != NULL;
	}
	return n;
}

static void nothing_is_held_after_detaching(void **state)
{
	const uint32_t abi = LB_SHM_ABI + 1;
	char both[100];

	(void)state;
	assert_int_equal(0, n_held());
	create(1);
	assert_int_equal(1, n_held());
	lb_shm_detach(&data, false);
	setenv("FULCRUM_SHM_DIR", dir_b, 1);
	create(1);
	lb_shm_detach(&data, false);
	for (unsigned i = 0; i < 2; i++) { // two to choose from, the newer first or last
		snprintf(both, sizeof(both), "%s:%s", i == 0 ? dir_a : dir_b,
			i == 0 ? dir_b : dir_a);
		setenv("FULCRUM_SHM_DIR", both, 1);
		assert_attach(0, NULL);
		assert_string_equal(region_b, control.path);
		assert_int_equal(1, n_held());
		lb_shm_detach(&control, false);
		assert_int_equal(0, n_held());
	}
	setenv("FULCRUM_SHM_DIR", dir_a, 1);
	create(1); // reads the mirror of the one before
	assert_int_equal(1, n_held());
	lb_shm_detach(&data, false);
	scribble(offsetof(struct lb_shm_header, abi), &abi, 4);
	assert_attach(-EPROTO, NULL);
	assert_int_equal(0, n_held());
	unlink(region_a);
	assert_int_equal(0, mkdir(region_a, 0700));
	assert_int_equal(-EISDIR, lb_shm_create(&data, "t", 1)); // fails at its last step
	assert_int_equal(0, n_held());
}

static void heartbeats_age(void **state)
{
	uint64_t age_ns;

	(void)state;
	create(1);
	assert_int_equal(UINT64_MAX, lb_shm_heartbeat_age_ns(data.shm, LB_SIDE_CONTROL));
	lb_shm_heartbeat(data.shm, LB_SIDE_CONTROL);
	age_ns = lb_shm_heartbeat_age_ns(data.shm, LB_SIDE_CONTROL);
	assert_true(age_ns < UINT64_MAX);
	assert_int_equal(getpid(), data.shm->header.side[LB_SIDE_CONTROL].pid);
	data.shm->header.side[LB_SIDE_CONTROL].heartbeat_ns -= 5000000000;
	assert_true(lb_shm_heartbeat_age_ns(data.shm, LB_SIDE_CONTROL) >= age_ns + 5000000000);
	// from the future, as a hostile peer may claim
	data.shm->header.side[LB_SIDE_CONTROL].heartbeat_ns = UINT64_MAX;
	assert_int_equal(0, lb_shm_heartbeat_age_ns(data.shm, LB_SIDE_CONTROL));
}

/* Nothing but the pid tells: the heartbeat is as fresh as it was. */
static uint32_t owner_if(uint32_t pid)
{
	lb_shm_heartbeat(data.shm, LB_SIDE_DATA);
	data.shm->header.side[LB_SIDE_DATA].pid = pid;
	data.shm->header.side[LB_SIDE_DATA].heartbeat_ns += 600 * LB_SHM_DEAD_NS;
	return lb_shm_owner(data.shm);
}

static void ended_process_owns_nothing(void **state)
{
	siginfo_t info;
	pid_t child;

	(void)state;
	create(1);
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	assert_true(child > 0);
	assert_int_equal(owner_if((uint32_t)child), child);
	assert_int_equal(0, kill(child, SIGKILL));
	assert_int_equal(0, waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT));
	assert_int_equal(0, kill(child, 0)); // a zombie
	assert_int_equal(owner_if((uint32_t)child), 0);
	assert_int_equal(child, waitpid(child, NULL, 0));
	assert_int_equal(owner_if((uint32_t)child), 0);

	assert_int_equal(owner_if((uint32_t)getpid()), getpid());
	data.shm->header.side[LB_SIDE_DATA].heartbeat_ns = 0;
	assert_int_equal(lb_shm_owner(data.shm), 0);
	data.shm->header.side[LB_SIDE_DATA].heartbeat_ns = 1;
	assert_int_equal(lb_shm_owner(data.shm), 0);
	assert_int_equal(owner_if(0), 0); // and no group of processes, either
	assert_int_equal(owner_if(UINT32_MAX), 0);
	assert_int_equal(owner_if((uint32_t)-getpgrp()), 0);
}

static void *wait_for_wake(void *arg)
{
	struct lb_ring consumer;
	struct lb_msg msg;

	(void)arg;
	lb_ring_attach_consumer(&consumer, &data.shm->command);
	for (unsigned n = 0; n < 1000;) {
		uint32_t seen = lb_shm_wait_seen(data.shm);

		while (lb_ring_pop(&consumer, &msg))
			n++;
		// ten minutes: a lost wake is a timeout of the test
		if (n < 1000)
			lb_shm_wait(data.shm, seen, 600000);
	}
	return NULL;
}

static void no_wake_is_lost(void **state)
{
	struct lb_msg msg = {.op = LB_OP_PING};
	struct lb_ring producer;
	pthread_t thread;

	(void)state;
	create(1);
	assert_attach(0, NULL);
	lb_ring_attach_producer(&producer, &control.shm->command);
	assert_int_equal(0, pthread_create(&thread, NULL, wait_for_wake, NULL));
	for (unsigned i = 0; i < 1000; i++) {
		while (!lb_ring_push(&producer, &msg))
			sched_yield();
		lb_shm_wake(control.shm); // through another mapping
		if (i % 10 == 0)
			sched_yield();
	}
	assert_int_equal(0, pthread_join(thread, NULL));
}

static void wait_ends_by_itself(void **state)
{
	uint64_t start_ns;
	uint32_t seen;

	(void)state;
	create(1);
	seen = lb_shm_wait_seen(data.shm);
	lb_shm_wait(data.shm, seen, 0);
	start_ns = lb_now_ns();
	lb_shm_wait(data.shm, seen, 20);
	assert_true(lb_now_ns() - start_ns >= 20000000); // it did sleep
	lb_shm_wake(data.shm);
	assert_int_not_equal(seen, lb_shm_wait_seen(data.shm));
	lb_shm_wait(data.shm, seen, 600000); // woken before it slept
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(instance_names_are_checked),
		TEST(worker_counts_are_checked),
		TEST(directories_are_separated_by_colons),
		TEST(both_sides_see_the_same_memory),
		TEST(header_says_who_made_it),
		TEST(file_is_for_owner_and_group_only),
		TEST(absent_region_is_no_such_file),
		TEST(header_that_does_not_fit_is_refused),
		TEST(short_file_is_refused),
		TEST(header_is_not_trusted_after_the_check),
		TEST(symlink_is_not_followed),
		TEST(planted_temporary_is_not_followed),
		TEST(what_is_not_a_file_of_ours_is_refused),
		TEST(new_region_replaces_the_old),
		TEST(region_that_moved_to_another_directory_is_found),
		TEST(newest_region_is_attached),
		TEST(directory_without_room_is_passed_over),
		TEST(name_that_is_a_directory_is_passed_over),
		TEST(failed_creation_leaves_all_as_it_was),
		TEST(intact_mirror_entries_are_carried_over),
		TEST(mirror_of_another_abi_is_not),
		TEST(every_bit_of_a_mirror_entry_is_checked),
		TEST(usual_directories_work),
		TEST(huge_pages_are_preferred),
		TEST(nothing_is_held_after_detaching),
		TEST(heartbeats_age),
		TEST(ended_process_owns_nothing),
		TEST(no_wake_is_lost),
		TEST(wait_ends_by_itself),
	};

	lb_log_set_level(LB_LOG_ERROR); // warnings are what is provoked here
	return cmocka_run_group_tests(tests, NULL, NULL);
}
