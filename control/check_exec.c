/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The exec check: a program's exit status 0 is health. It is started without a fork of our memory (as
 * posix_spawn() does it), in a process group of its own, with nothing of ours: no descriptor, no capability, no
 * environment but what docs/config.md lists. A pidfd tells of its end, so that neither signals nor waiting come
 * into it. At the deadline the whole group is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/health_internal.h"

#define MAX_ARGS 65u
#define N_ENV 9u
#define ENV_BYTES 160u /* the longest: a derived name of 63 + 1 + 45 characters */
#define OUTPUT_BYTES 96u /* of what it writes: as much as fits a reason */
#define STACK_BYTES (64u << 10)
#define FALLBACK_ID 65534u /* nobody, by convention */

/* A process that is waited for; outlives its probe when that is given up. */
struct child {
	struct lb_health_exec *exec;
	struct exec_probe *probe; /* NULL: given up */
	TAILQ_ENTRY(child) link;
	pid_t pid;
	int pidfd, output; /* output -1: closed */
	struct event ended, readable;
	char text[OUTPUT_BYTES];
	size_t text_bytes;
};

struct lb_health_exec {
	struct event_base *base;
	TAILQ_HEAD(, child) children;
	bool drops; /* we are root: programs are not */
	uid_t uid;
	gid_t gid;
	char *stack;
};

struct exec_probe {
	struct lb_health_check *check;
	struct child *child; /* NULL: none in flight */
	char *argv[MAX_ARGS + 1];
	char *env[N_ENV + 1];
	char env_text[N_ENV][ENV_BYTES];
};

int lb_health_exec_create(struct event_base *base, struct lb_health_exec **out)
{
	struct lb_health_exec *exec = calloc(1, sizeof(*exec));
	const struct passwd *nobody;

	if (!exec)
		return -ENOMEM;
	exec->base = base;
	TAILQ_INIT(&exec->children);
	exec->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (exec->stack == MAP_FAILED) {
		free(exec);
		return -ENOMEM;
	}
	exec->drops = geteuid() == 0;
	exec->uid = exec->gid = FALLBACK_ID;
	nobody = exec->drops ? getpwnam("nobody") : NULL;
	if (nobody) {
		exec->uid = nobody->pw_uid;
		exec->gid = nobody->pw_gid;
	}
	*out = exec;
	return 0;
}

static void close_output(struct child *child)
{
	if (child->output < 0)
		return;
	event_del(&child->readable);
	close(child->output);
	child->output = -1;
}

static void child_free(struct child *child)
{
	close_output(child);
	event_del(&child->ended);
	close(child->pidfd);
	TAILQ_REMOVE(&child->exec->children, child, link);
	free(child);
}

static void kill_group(const struct child *child)
{
	kill(-child->pid, SIGKILL);
	kill(child->pid, SIGKILL); // if it is not in its group yet
}

void lb_health_exec_destroy(struct lb_health_exec *exec)
{
	struct child *child;

	while ((child = TAILQ_FIRST(&exec->children))) {
		kill_group(child);
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			;
		child_free(child);
	}
	munmap(exec->stack, STACK_BYTES);
	free(exec);
}

/* ---- the way to exec(): async-signal-safe calls only, as the memory is the parent's ---- */

struct launch {
	const struct lb_health_exec *exec;
	char *const *argv, *const *env;
	int output;
	volatile int error; /* the child's, seen by us: one memory */
};

// glibc's set*id() would tell its threads, which are not the child's.
static int drop_privileges(const struct lb_health_exec *exec)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (exec->drops && (syscall(SYS_setgroups, 0, NULL) < 0 ||
				   syscall(SYS_setresgid, exec->gid, exec->gid, exec->gid) < 0 ||
				   syscall(SYS_setresuid, exec->uid, exec->uid, exec->uid) < 0))
		return -1;
	return (int)syscall(SYS_capset, &header, none);
}

static void reset_signals(void)
{
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP)
			sigaction(i, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int become(void *arg)
{
	struct launch *launch = arg;
	int null;

	setpgid(0, 0);
	null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, 0) < 0 || dup2(launch->output, 1) < 0 ||
		dup2(launch->output, 2) < 0 || chdir("/") < 0)
		goto fail;
	syscall(SYS_close_range, 3, ~0u, 0);
	if (drop_privileges(launch->exec) < 0)
		goto fail;
	reset_signals();
	execve(launch->argv[0], launch->argv, launch->env);
fail:
	launch->error = errno;
	_exit(127);
}

/* @return 0 with pid and pidfd; -errno. */
static int launch_child(const struct lb_health_exec *exec, const struct exec_probe *probe, int output,
	pid_t *pid, int *pidfd)
{
	struct launch launch = {
		.exec = exec, .argv = probe->argv, .env = probe->env, .output = output};
	sigset_t all, old;
	int error;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old); // our handlers are not to run in its place
	*pidfd = -1;
	*pid = clone(become, exec->stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
		&launch, pidfd);
	error = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (*pid < 0)
		return -error;
	fcntl(*pidfd, F_SETFD, FD_CLOEXEC);
	if (launch.error == 0)
		return 0;
	close(*pidfd);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	return -launch.error;
}

/* ---- one probe ---- */

// Its first line, printable, is part of the reason.
static void read_output(struct child *child)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(child->output, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n && child->text_bytes < OUTPUT_BYTES - 1; i++)
			child->text[child->text_bytes++] = buf[i];
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_output(child);
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	read_output(arg);
}

static const char *first_line(struct child *child)
{
	child->text[child->text_bytes] = '\0';
	child->text[strcspn(child->text, "\r\n")] = '\0';
	for (char *c = child->text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return child->text;
}

static void on_end(evutil_socket_t fd, short what, void *arg)
{
	struct child *child = arg;
	struct exec_probe *probe = child->probe;
	char text[OUTPUT_BYTES];
	const char *colon;
	int status = 0;

	(void)fd, (void)what;
	// what it has left running in the background has no business any more; as long as it is not
	// waited for, the number of its group is nobody else's
	kill(-child->pid, SIGKILL);
	if (waitpid(child->pid, &status, WNOHANG) == 0)
		return;
	if (child->output >= 0)
		read_output(child);
	snprintf(text, sizeof(text), "%.80s", first_line(child));
	child_free(child);
	if (!probe)
		return;
	probe->child = NULL;
	colon = text[0] ? ": " : "";
	if (WIFSIGNALED(status))
		lb_health_result(probe->check, LB_HEALTH_FAILED, "killed by signal %d%s%s",
			WTERMSIG(status), colon, text);
	else if (WEXITSTATUS(status) != 0)
		lb_health_result(probe->check, LB_HEALTH_FAILED, "exit status %d%s%s",
			WEXITSTATUS(status), colon, text);
	else
		lb_health_result(probe->check, LB_HEALTH_OK, "ok%s%s", colon, text);
}

static void *exec_create(struct lb_health_check *check, const struct lb_config_check *config)
{
	struct exec_probe *probe = calloc(1, sizeof(*probe));
	unsigned n = 0;

	if (!probe)
		return NULL;
	probe->check = check;
	for (uint32_t at = 0; at < config->command_bytes && n < MAX_ARGS;
		at += (uint32_t)strlen(config->command + at) + 1)
		probe->argv[n++] = config->command + at;
	return probe;
}

static void set_env(struct exec_probe *probe, const char *name, const char *value)
{
	unsigned i = 0;

	while (probe->env[i])
		i++;
	snprintf(probe->env_text[i], ENV_BYTES, "%s=%s", name, value);
	probe->env[i] = probe->env_text[i];
}

static void build_env(struct exec_probe *probe)
{
	const struct lb_health_check *check = probe->check;
	char text[LB_ADDR_STRLEN];

	memset(probe->env, 0, sizeof(probe->env));
	set_env(probe, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	set_env(probe, "LANG", "C");
	set_env(probe, "FULCRUM_ADDRESS", lb_addr_format(&check->endpoint.addr, text));
	snprintf(text, sizeof(text), "%u",
		be16toh(lb_health_check_port_be(check, &check->config)));
	set_env(probe, "FULCRUM_PORT", text);
	set_env(probe, "FULCRUM_SERVICE", check->service_name ? check->service_name : "");
	set_env(probe, "FULCRUM_BACKEND", check->backend_name ? check->backend_name : "");
	set_env(probe, "FULCRUM_STATE", lb_health_state_name(check->status.state));
	snprintf(text, sizeof(text), "%u", check->config.timeout_ms);
	set_env(probe, "FULCRUM_TIMEOUT_MS", text);
}

static int watch(struct lb_health_exec *exec, struct child *child)
{
	event_assign(&child->ended, exec->base, child->pidfd, EV_READ | EV_PERSIST, on_end, child);
	event_assign(&child->readable, exec->base, child->output, EV_READ | EV_PERSIST, on_output,
		child);
	return event_add(&child->ended, NULL) < 0 || event_add(&child->readable, NULL) < 0 ? -ENOMEM :
											     0;
}

static int exec_start(void *data)
{
	struct exec_probe *probe = data;
	struct lb_health_exec *exec = probe->check->health->exec;
	struct child *child = calloc(1, sizeof(*child));
	int ends[2], rc;

	if (!child)
		return -ENOMEM;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		rc = -errno;
		free(child);
		return rc;
	}
	fcntl(ends[1], F_SETFL, 0); // the program's end blocks, as any program expects
	build_env(probe);
	rc = launch_child(exec, probe, ends[1], &child->pid, &child->pidfd);
	close(ends[1]);
	if (rc < 0) {
		close(ends[0]);
		free(child);
		return rc;
	}
	child->exec = exec;
	child->output = ends[0];
	TAILQ_INSERT_TAIL(&exec->children, child, link);
	rc = watch(exec, child);
	if (rc < 0) {
		kill_group(child);
		waitpid(child->pid, NULL, 0);
		child_free(child);
		return rc;
	}
	child->probe = probe;
	probe->child = child;
	return 0;
}

static void exec_cancel(void *data)
{
	struct exec_probe *probe = data;

	kill_group(probe->child);
	probe->child->probe = NULL; // on_end() reaps it
	probe->child = NULL;
}

static const char *exec_phase(const void *data)
{
	(void)data;
	return "the program ran";
}

static const char *exec_invalid(const void *data)
{
	return ((const struct exec_probe *)data)->argv[0] ? NULL : "no program to run";
}

const struct lb_health_ops lb_check_exec_ops = {
	.create = exec_create,
	.destroy = free,
	.start = exec_start,
	.cancel = exec_cancel,
	.phase = exec_phase,
	.invalid = exec_invalid,
	.lane = LB_HEALTH_LANE_EXEC,
	.needs_no_port = true,
	.start_fails_us = true,
};
