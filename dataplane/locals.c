/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's addresses that are ours to send from: told one by one, in force as a whole. Main lcore only. */
#include "dataplane/encap.h"
#include "dataplane/fullnat.h"

#include <errno.h>
#include <string.h>

#include <rte_malloc.h>

const struct lb_addr *lb_local_of_family(const struct lb_locals *locals, bool ipv4)
{
	for (uint32_t i = 0; i < locals->n; i++)
		if (lb_addr_is_ipv4(&locals->addrs[i]) == ipv4)
			return &locals->addrs[i];
	return NULL;
}

static bool same(const struct lb_locals *a, const struct lb_locals *b)
{
	return a->n == b->n && memcmp(a->addrs, b->addrs, a->n * sizeof(a->addrs[0])) == 0;
}

static int adopt(struct lb_dp *dp, struct lb_locals *locals)
{
	const struct lb_locals *old = dp->locals;
	int rc;

	dp->next_locals = NULL;
	if (same(old, locals)) {
		rte_free(locals);
		return 0;
	}
	atomic_store_explicit(&dp->locals, locals, memory_order_release);
	lb_dp_retire(dp, (void *)(uintptr_t)old);
	rc = lb_encap_prepare_all(dp, NULL);
	return rc < 0 ? rc : lb_fullnat_locals_changed(dp);
}

static bool is_listed(const struct lb_locals *locals, const struct lb_addr *addr)
{
	for (uint32_t i = 0; i < locals->n; i++)
		if (lb_addr_equal(&locals->addrs[i], addr))
			return true;
	return false;
}

static bool msg_valid(const struct lb_dp *dp, const struct lb_msg_local *msg)
{
	static const struct lb_addr none;

	if (msg->zero != 0 || msg->count > LB_MAX_LOCALS)
		return false;
	if (msg->count == 0)
		return msg->index == 0 && lb_addr_equal(&msg->addr, &none);
	if (msg->index >= msg->count || !lb_addr_is_usable(&msg->addr))
		return false;
	// Index 0 begins a list, whatever became of the one before.
	return msg->index == 0 || (dp->next_locals != NULL && dp->next_locals->n == msg->index &&
					  !is_listed(dp->next_locals, &msg->addr));
}

int lb_local_set(struct lb_dp *dp, const struct lb_msg_local *msg)
{
	if (!msg_valid(dp, msg))
		return -EINVAL;
	if (msg->index == 0) {
		rte_free(dp->next_locals);
		dp->next_locals = rte_zmalloc("locals", sizeof(*dp->next_locals), 64);
	}
	if (dp->next_locals == NULL)
		return -ENOMEM;
	if (msg->count != 0)
		dp->next_locals->addrs[dp->next_locals->n++] = msg->addr;
	dp->locals_mentioned = true;
	if (dp->next_locals->n == msg->count)
		return adopt(dp, dp->next_locals);
	return 0;
}
