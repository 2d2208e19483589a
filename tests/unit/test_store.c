/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/store.h"

static char dir[] = "/tmp/fulcrum-store-XXXXXX";
static char path[64], aside[80], temp[80];
static char why[300];

static int setup(void **state)
{
	(void)state;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/state", dir);
	snprintf(aside, sizeof(aside), "%s.corrupt", path);
	snprintf(temp, sizeof(temp), "%s.new", path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	unlink(aside);
	unlink(temp);
	rmdir(temp);
	return rmdir(dir);
}

static json_t *document(void)
{
	return json_pack("{s:i, s:s, s:[i,i]}", "a", 1, "text", "h\xc3\xa9llo\n", "list", 1, 2);
}

static void save(void)
{
	json_t *json = document();

	assert_int_equal(lb_store_save(path, json, why, sizeof(why)), 0);
	json_decref(json);
}

static void what_is_saved_is_loaded(void **state)
{
	json_t *json = document(), *loaded = NULL;
	struct stat st;

	(void)state;
	save();
	assert_int_equal(lb_store_load(path, &loaded, why, sizeof(why)), 0);
	assert_true(json_equal(json, loaded));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600); // it holds a secret
	assert_int_equal(access(temp, F_OK), -1);
	json_decref(json);
	json_decref(loaded);
}

static void no_file_is_no_error_of_its_content(void **state)
{
	json_t *loaded;

	(void)state;
	assert_int_equal(lb_store_load(path, &loaded, why, sizeof(why)), -ENOENT);
}

static size_t read_all(char *buf, size_t bytes)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, bytes);

	assert_true(n > 0);
	close(fd);
	return (size_t)n;
}

static void write_all(const char *buf, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	close(fd);
}

static void expect_corrupt(void)
{
	json_t *loaded = NULL;

	assert_int_equal(lb_store_load(path, &loaded, why, sizeof(why)), -EBADMSG);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(aside, F_OK), 0);
	assert_true(strlen(why) > 0);
}

static void every_truncation_is_noticed(void **state)
{
	char buf[4096];
	size_t len;

	(void)state;
	save();
	len = read_all(buf, sizeof(buf));
	for (size_t n = 0; n < len; n++) {
		write_all(buf, n);
		expect_corrupt();
	}
}

static void every_flipped_bit_is_noticed(void **state)
{
	char buf[4096];
	size_t len;

	(void)state;
	save();
	len = read_all(buf, sizeof(buf));
	for (size_t i = 0; i < len; i++) {
		buf[i] ^= (char)(1 << i % 8);
		write_all(buf, len);
		expect_corrupt();
		buf[i] ^= (char)(1 << i % 8);
	}
	write_all(buf, len);
	save();
}

static void a_failed_save_leaves_the_old_file(void **state)
{
	json_t *json = json_pack("{s:i}", "b", 2), *loaded = NULL, *old = document();

	(void)state;
	save();
	// the temporary name is taken by what cannot be written, also not by root
	assert_int_equal(mkdir(temp, 0700), 0);
	assert_true(lb_store_save(path, json, why, sizeof(why)) < 0);
	assert_non_null(strstr(why, path));
	assert_int_equal(lb_store_load(path, &loaded, why, sizeof(why)), 0);
	assert_true(json_equal(loaded, old));
	json_decref(json);
	json_decref(old);
	json_decref(loaded);
}

static void a_directory_in_its_place_is_no_crash(void **state)
{
	json_t *loaded;

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(lb_store_load(path, &loaded, why, sizeof(why)) < 0);
	rmdir(path);
	rmdir(aside);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_saved_is_loaded, setup, teardown),
		cmocka_unit_test_setup_teardown(
			no_file_is_no_error_of_its_content, setup, teardown),
		cmocka_unit_test_setup_teardown(every_truncation_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(every_flipped_bit_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failed_save_leaves_the_old_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_directory_in_its_place_is_no_crash, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
