/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const unsigned kept[] = {CAP_NET_ADMIN, CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SETGID, CAP_KILL};

static bool is_kept(unsigned capability)
{
	for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (kept[i] == capability)
			return true;
	return false;
}

// While CAP_SETPCAP is still ours: programs that we start as root must not get the rest back.
static int bound(void)
{
	for (unsigned capability = 0; capability <= CAP_LAST_CAP; capability++)
		if (!is_kept(capability) && prctl(PR_CAPBSET_READ, capability) == 1 &&
			prctl(PR_CAPBSET_DROP, capability) < 0)
			return -errno;
	return 0;
}

int lb_privileges_drop(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capget, &header, data) < 0)
		return -errno;
	rc = data[0].effective & (1u << CAP_SETPCAP) ? bound() : 0;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		uint32_t mask = 0;

		for (unsigned bit = 0; bit < 32; bit++)
			mask |= is_kept(32 * i + bit) ? UINT32_C(1) << bit : 0;
		data[i].permitted &= mask;
		data[i].effective &= mask;
		data[i].inheritable &= mask;
	}
	if (syscall(SYS_capset, &header, data) < 0)
		return -errno;
	return rc;
}
