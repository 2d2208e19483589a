/* SPDX-License-Identifier: BSD-3-Clause */
/* Ports: any DPDK device, PCI or virtual, with a queue pair per worker. Main lcore only. */
#include "dataplane/port.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <rte_ethdev.h>

#include "dataplane/frag.h"
#include "lb/log.h"

#define TOPIC "port"

// 1024 descriptors are 50 us of 64-byte packets at 20 Mpps: what a worker may be away for.
#define N_DESCRIPTORS 1024u

unsigned lb_port_mbufs(unsigned n_ports, unsigned n_workers)
{
	unsigned per_queue = 2 * N_DESCRIPTORS + LB_BURST;

	return n_ports * n_workers * per_queue + n_workers * (512u + LB_FRAG_HELD) + 1024u;
}

static int start_queues(uint16_t port, unsigned n_workers, struct rte_mempool *pool,
	const struct rte_eth_dev_info *info)
{
	uint16_t n_rx = N_DESCRIPTORS, n_tx = N_DESCRIPTORS;
	int socket = rte_eth_dev_socket_id(port);
	struct rte_eth_txconf txconf = info->default_txconf;
	int rc = rte_eth_dev_adjust_nb_rx_tx_desc(port, &n_rx, &n_tx);

	if (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE)
		txconf.offloads |= RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	for (uint16_t queue = 0; rc == 0 && queue < n_workers; queue++) {
		rc = rte_eth_rx_queue_setup(port, queue, n_rx, socket, NULL, pool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(port, queue, n_tx, socket, &txconf);
	}
	return rc;
}

int lb_port_start(uint16_t port, unsigned n_workers, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	char name[RTE_ETH_NAME_MAX_LEN] = "?";
	int rc = rte_eth_dev_info_get(port, &info);

	rte_eth_dev_get_name_by_port(port, name);
	if (rc == 0 && (info.max_rx_queues < n_workers || info.max_tx_queues < n_workers)) {
		lb_log(LB_LOG_ERROR, TOPIC, "%s has %u RX and %u TX queues, %u workers need one each: start "
			"fewer workers, or give the device more queues (af_packet: qpairs=N)",
			name, info.max_rx_queues, info.max_tx_queues, n_workers);
		return -ENOTSUP;
	}
	if (rc == 0) {
		if (n_workers > 1) {
			conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
			conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads &
				(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
			if (conf.rx_adv_conf.rss_conf.rss_hf == 0)
				conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
		}
		conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
		conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
		rc = rte_eth_dev_configure(port, (uint16_t)n_workers, (uint16_t)n_workers, &conf);
	}
	if (rc == 0)
		rc = start_queues(port, n_workers, pool, &info);
	if (rc == 0)
		rc = rte_eth_dev_start(port);
	if (rc != 0)
		lb_log(LB_LOG_ERROR, TOPIC, "cannot start %s (%s): %s", name, info.driver_name,
			rte_strerror(-rc));
	return rc;
}

// Of the interface behind the port, if there is one: virtual devices let ethdev believe in 1500.
static uint16_t mtu_of(uint16_t port)
{
	struct rte_eth_dev_info info;
	struct ifreq request = {0};
	uint16_t mtu = RTE_ETHER_MTU;
	int fd;

	rte_eth_dev_get_mtu(port, &mtu);
	if (rte_eth_dev_info_get(port, &info) != 0 || info.if_index == 0 ||
		if_indextoname(info.if_index, request.ifr_name) == NULL)
		return mtu;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return mtu;
	if (ioctl(fd, SIOCGIFMTU, &request) == 0 && request.ifr_mtu > 0)
		mtu = (uint16_t)RTE_MIN(request.ifr_mtu, UINT16_MAX);
	close(fd);
	return mtu;
}

bool lb_port_describe(uint16_t port, struct lb_shm_port *line)
{
	struct rte_eth_dev_info info;
	struct rte_eth_stats stats;
	struct rte_eth_link link;
	struct rte_ether_addr mac;
	uint8_t was_up = line->link_up;
	bool first = !line->in_use;

	if (rte_eth_dev_info_get(port, &info) != 0)
		return false;
	rte_eth_dev_get_name_by_port(port, line->name);
	snprintf(line->driver, sizeof(line->driver), "%s", info.driver_name);
	line->ifindex = info.if_index;
	line->n_queues = info.nb_rx_queues;
	line->mtu = mtu_of(port);
	if (rte_eth_macaddr_get(port, &mac) == 0)
		memcpy(line->mac, &mac, sizeof(line->mac));
	if (rte_eth_link_get_nowait(port, &link) == 0) {
		line->link_up = link.link_status == RTE_ETH_LINK_UP;
		line->speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	}
	if (rte_eth_stats_get(port, &stats) == 0) {
		line->rx_pkts = stats.ipackets;
		line->rx_bytes = stats.ibytes;
		line->tx_pkts = stats.opackets;
		line->tx_bytes = stats.obytes;
		line->rx_missed = stats.imissed;
		line->rx_errors = stats.ierrors;
		line->rx_nombuf = stats.rx_nombuf;
		line->tx_errors = stats.oerrors;
	}
	line->in_use = 1;
	return !first && was_up != line->link_up;
}

void lb_port_tell_worker(uint16_t port, struct lb_worker *worker, bool any_mac)
{
	struct rte_ether_addr mac = {0};

	rte_eth_macaddr_get(port, &mac);
	lb_worker_set_mac(worker, port, mac.addr_bytes);
	lb_worker_set_mtu(worker, port, mtu_of(port));
	any_mac = any_mac || rte_eth_promiscuous_get(port) == 1;
	worker->port_macs[port] = any_mac ? LB_MAC_ANY : worker->src_macs[port] & LB_MAC_MASK;
}
