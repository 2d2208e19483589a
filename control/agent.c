/* SPDX-License-Identifier: BSD-3-Clause */
#include "control/agent.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "control/config.h"

int lb_agent_parse_weight(const char *text, struct lb_agent_words *words)
{
	size_t n = strspn(text, "0123456789");
	uint32_t value = 0;

	if (n == 0 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		value = 10 * value + (uint32_t)(text[i] - '0');
	if (strcmp(text + n, "%") == 0 && value <= LB_AGENT_MAX_PERCENT)
		words->is_percent = true;
	else if (text[n] == '\0' && value <= LB_CONFIG_MAX_WEIGHT)
		words->is_percent = false;
	else
		return -EINVAL;
	words->weight = value;
	words->has_weight = true;
	return 0;
}

static int parse_word(const char *word, struct lb_agent_words *words)
{
	static const struct {
		const char *word;
		enum lb_agent_admin admin;
		enum lb_agent_oper oper;
	} known[] = {
		{"ready", LB_AGENT_READY, 0}, {"drain", LB_AGENT_DRAIN, 0},
		{"maint", LB_AGENT_MAINT, 0}, {"up", 0, LB_AGENT_UP}, {"down", 0, LB_AGENT_DOWN},
		{"fail", 0, LB_AGENT_DOWN}, {"failed", 0, LB_AGENT_DOWN},
		{"stopped", 0, LB_AGENT_DOWN},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcasecmp(word, known[i].word) != 0)
			continue;
		if (known[i].admin)
			words->admin = known[i].admin;
		else
			words->oper = known[i].oper;
		return 0;
	}
	if (strncasecmp(word, "maxconn:", 8) == 0)
		return 0;
	if (lb_agent_parse_weight(word, words) == 0 && words->is_percent)
		return 0;
	return -EINVAL;
}

int lb_agent_parse(const char *text, struct lb_agent_words *words)
{
	struct lb_agent_words all = {0};
	unsigned n_words = 0;
	char word[32];

	for (;;) {
		size_t n;

		text += strspn(text, " \t\r\n,");
		n = strcspn(text, " \t\r\n,#");
		if (n == 0)
			break; // the end, or a "#"
		if (n >= sizeof(word))
			return -EINVAL;
		memcpy(word, text, n);
		word[n] = '\0';
		if (parse_word(word, &all) < 0)
			return -EINVAL;
		n_words++;
		text += n;
	}
	if (n_words == 0)
		return -EINVAL;
	*words = all;
	return 0;
}

uint32_t lb_agent_percent(const struct lb_agent_words *words, uint32_t configured)
{
	uint64_t percent = words->weight;

	if (!words->has_weight)
		return 100;
	if (!words->is_percent)
		percent = configured > 0 ? UINT64_C(100) * words->weight / configured : 100;
	if (percent == 0 && words->weight > 0)
		percent = 1;
	return percent > 100 ? 100 : (uint32_t)percent;
}
