/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For LD_PRELOAD in front of Pktgen-DPDK: it gives up on a port whose MTU cannot be set, and
 * net_memif and net_vhost have no such operation. Where a driver has none and the port takes frames
 * of that size anyway, setting its MTU succeeds.
 */
#include <dlfcn.h>
#include <errno.h>

#include <rte_ethdev.h>

int rte_eth_dev_set_mtu(uint16_t port, uint16_t mtu)
{
	int (*set_mtu)(uint16_t, uint16_t);
	uint16_t mtu_now;
	int rc;

	*(void **)&set_mtu = dlsym(RTLD_NEXT, "rte_eth_dev_set_mtu");
	if (set_mtu == NULL)
		return -ENOTSUP;
	rc = set_mtu(port, mtu);
	if (rc == -ENOTSUP && rte_eth_dev_get_mtu(port, &mtu_now) == 0 && mtu_now >= mtu)
		rc = 0;
	return rc;
}
